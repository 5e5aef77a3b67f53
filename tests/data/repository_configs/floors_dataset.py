from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS


@DATASETS.register_module(name="Floors")
class FloorsDataset(BaseSegDataset):
    r"""Rooms. 0 is 'outside', which does not count.

    C:\data\floors has the originals.
    """

    METAINFO = {
        "classes": [name.strip().replace("_", " ") for name in "floor, wall, ceiling, door_frame".split(",")],
        "palette": [[int(h[i:i + 2], 16) for i in (0, 2, 4)] for h in ("c0ffee", "0000ff", "ffffff", "aa5500")],
    }
    num_rooms = 12
    splits = {"train": 0.8, "val": 0.2}

    def __init__(
        self,
        ann_file: str = "",
        img_suffix: str = ".jpeg",
        seg_map_suffix: str = ".png",
        reduce_zero_label: bool = True,
        **kwargs,
    ) -> None:
        super().__init__(
            ann_file=ann_file,
            img_suffix=img_suffix,
            seg_map_suffix=seg_map_suffix,
            reduce_zero_label=reduce_zero_label,
            **kwargs,
        )

    def hex(self, colour):
        return "%02x%02x%02x" % tuple(colour)
