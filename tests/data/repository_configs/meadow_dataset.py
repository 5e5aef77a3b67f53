from .meadow_base import MeadowBase
from mmseg.registry import DATASETS


@DATASETS.register_module()
class Meadow(MeadowBase):
    """Meadows of 2023, seen by drone."""

    def __init__(self, seg_map_suffix: str = "_label.png", **kwargs):
        super().__init__(seg_map_suffix=seg_map_suffix, **kwargs)
