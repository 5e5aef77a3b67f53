"""What a resolved configuration of segcore lacks for MMSegmentation, and what one process cannot use."""
import importlib
import inspect
import sys

# Options that MMCV takes as tuples only; YAML has lists.
TUPLES = ("crop_size", "img_size", "ratio_range", "scale", "size")

# Backbones that take no images but of their `img_size`.
SIZED_BACKBONES = ("BEiT", "MAE")

# Heads that MMSegmentation derives from MMDetection's, which build their parts of MMDetection's types.
QUERY_HEADS = ("MaskFormerHead", "Mask2FormerHead")


def adapted(value, key=None):
    """A configuration for one process, without files of weights."""
    if isinstance(value, dict):
        value = {k: adapted(v, k) for k, v in value.items()}
        if value.get("type") == "SyncBN":
            value["type"] = "BN"
        if value.get("type") == "Pretrained":
            return None
    elif isinstance(value, list):
        value = [new for old, new in ((v, adapted(v)) for v in value) if new is not None or old is None]
        if key in TUPLES and all(isinstance(v, (int, float)) for v in value):
            value = tuple(value)
    return None if key == "pretrained" else value


class LibrariesBeside:
    """Types of the libraries that MMSegmentation takes parts of. One is imported when it is asked: that
    takes seconds, and fails beside versions of MMCV that MMSegmentation itself takes."""

    def __init__(self):
        self.types = {}

    def has(self, scope, name):
        if scope not in self.types:
            self.types[scope] = self._types_of(scope)
        return name in self.types[scope]

    @staticmethod
    def _types_of(scope):
        try:
            importlib.import_module(f"{scope}.models")  # registers the types
            registry = importlib.import_module(f"{scope}.registry")
        except Exception as error:  # whatever a library does that does not fit
            print(f"warning: no types of {scope}: {error}", file=sys.stderr)
            return ()
        return registry.MODELS.module_dict.keys() | registry.TASK_UTILS.module_dict.keys()


def add_scopes(part, is_own, beside, preferred=None):
    """Types get the scope ("mmdet.") that MMSegmentation's configs write and segcore does not need.

    :param is_own: whether MMSegmentation itself has the type of a name
    :param beside: LibrariesBeside
    :param preferred: the scope whose types come before MMSegmentation's here
    """
    if isinstance(part, list):
        for one in part:
            add_scopes(one, is_own, beside, preferred)
    elif isinstance(part, dict):
        name = part.get("type")
        inside = "mmdet" if name in QUERY_HEADS else preferred
        if name and name not in QUERY_HEADS:
            scopes = [preferred] if preferred else [] if is_own(name) else ["mmpretrain", "mmdet"]
            scope = next((s for s in scopes if beside.has(s, name)), None)
            if scope:
                part["type"] = f"{scope}.{name}"
        for key, value in part.items():
            if key != "init_cfg":  # of initializers, which are MMEngine's
                add_scopes(value, is_own, beside, inside)


def heads_of(holder, key):
    found = holder.get(key) or []
    return found if isinstance(found, (list, tuple)) else [found]


def add_in_channels(model, models, torch):
    """segcore takes the widths of maps from the backbone and the neck; MMSegmentation has to be told."""
    heads = heads_of(model, "decode_head") + heads_of(model, "auxiliary_head")

    def takes_widths(neck):  # Feature2Pyramid is told one width, which our configs write
        known = models.get(neck.type)  # of one that is not, building it tells
        return known is None or "in_channels" in inspect.signature(known).parameters

    necks = [model.neck] if model.get("neck") and takes_widths(model.neck) else []
    wanted = [part for part in necks + heads if part and "in_channels" not in part]
    if not wanted:
        return

    def outputs(part, inputs):
        module = models.build(part)
        module.eval()  # some return nothing
        with torch.no_grad():
            return module(inputs)

    size = model.backbone.get("img_size", 224) if model.backbone.type in SIZED_BACKBONES else 64
    sides = tuple(size) if isinstance(size, (list, tuple)) else (size,)
    height, width = (sides * 2)[:2]
    maps = outputs(model.backbone, torch.zeros(1, model.backbone.get("in_channels", 3), height, width))
    if model.get("neck"):
        if model.neck in wanted:
            model.neck.in_channels = [x.shape[1] for x in maps]
        maps = outputs(model.neck, maps)
    for head in heads:
        if head in wanted:
            every = list(range(len(maps)))
            index = head.get("in_index", every if head["type"] in QUERY_HEADS else -1)
            head.in_channels = ([maps[i].shape[1] for i in index] if isinstance(index, (list, tuple))
                                else maps[index].shape[1])
