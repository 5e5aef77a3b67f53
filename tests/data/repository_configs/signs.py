from mmengine.registry import DATASETS
import mmseg.datasets


@DATASETS.register_module()
class SignsDataset(mmseg.datasets.BaseSegDataset):
    CLASSES = ("background", "sign", "light")
    PALETTE = [
        [0, 0, 0],  # background
        [255, 200, 0],
        [255, 0, 0],
    ]
    METAINFO = dict(classes=CLASSES, palette=PALETTE)
    COLOURS = dict(zip(CLASSES, PALETTE))

    def __init__(self, *args, **kwargs):
        super(SignsDataset, self).__init__(*args, img_suffix=".png", seg_map_suffix="_gt.png", **kwargs)
