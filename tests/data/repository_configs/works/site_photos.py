from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS


@DATASETS.register_module(name='工事写真')
class SitePhotos(BaseSegDataset):
    """現場の写真 📷"""
    METAINFO: dict = dict(
        classes=['背景', 'ひび割れ', 'さび'],
        palette=[[0] * 3, [255, 0, 0], [180, 90, 30]],
    )

    def __init__(self, **kwargs):
        super().__init__(img_suffix='.JPG', seg_map_suffix='.png', **kwargs)
