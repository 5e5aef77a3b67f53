# 车道线数据集：标注格式与 Cityscapes 相同
from mmseg.registry import DATASETS
from mmseg.datasets.cityscapes import CityscapesDataset


@DATASETS.register_module()
class LaneMarkingDataset(CityscapesDataset):
    """车道线。"""
    METAINFO = dict(
        # 类别名称
        classes=('背景', '实线', '虚线', '箭头', ),
        palette=[[0, 0, 0], [255, 255, 255],
                 [255, 204, 0],   # 黄色
                 [0, 128, 255], ])

    def __init__(self,
                 img_suffix='.jpg',
                 seg_map_suffix='_标注.png',
                 **kwargs):
        print('读取车道线数据')
        super(CityscapesDataset, self).__init__(
            img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kwargs)
