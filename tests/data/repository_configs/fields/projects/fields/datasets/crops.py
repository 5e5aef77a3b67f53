import mmengine.fileio as fileio
from mmseg.datasets.basesegdataset import BaseSegDataset
from mmseg.registry import DATASETS


@DATASETS.register_module()
class CropFieldsDataset(BaseSegDataset):
    """Label 0 is a field without a survey."""

    METAINFO = dict(
        classes=('wheat', 'maize', 'beet'),
        palette=[[230, 200, 90], [250, 250, 0], [150, 0, 90]])

    def __init__(self, img_suffix='.tif', seg_map_suffix='.tif', reduce_zero_label=True, **kwargs) -> None:
        super().__init__(
            img_suffix=img_suffix, seg_map_suffix=seg_map_suffix,
            reduce_zero_label=reduce_zero_label, **kwargs)
        assert fileio.exists(self.data_prefix['img_path'], self.backend_args)


@DATASETS.register_module()
class WinterFieldsDataset(CropFieldsDataset):
    METAINFO = dict(
        classes=('rye', 'barley', 'rape'),
        palette=[[200, 180, 90], [220, 220, 60], [255, 255, 0]])
