from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS


@DATASETS.register_module()
class AnimalsDataset(BaseSegDataset):
    METAINFO = dict(classes=('background', 'dog', 'cat'), palette=[[0, 0, 0], [200, 120, 0], [0, 120, 200]])

    def __init__(self, img_suffix='.jpg', seg_map_suffix='.png', **kwargs) -> None:
        super().__init__(img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kwargs)
        assert self.reduce_zero_label is False
