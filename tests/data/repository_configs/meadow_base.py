from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

SPECIES = {
    'grass': (0, 150, 0),
    'clover': (120, 200, 80),
    'bare soil': (140, 100, 60),
}


@DATASETS.register_module()
class MeadowBase(BaseSegDataset):
    METAINFO = dict(classes=list(SPECIES), palette=[list(c) for c in SPECIES.values()])

    def __init__(self, img_suffix=".png", seg_map_suffix=".png", ignore_index=255, **kwargs):
        super(MeadowBase, self).__init__(img_suffix=img_suffix, seg_map_suffix=seg_map_suffix,
                                         ignore_index=ignore_index, **kwargs)
