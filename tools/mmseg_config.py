"""What a resolved configuration of segcore lacks for MMSegmentation, and what one process cannot use."""

# Options that MMCV takes as tuples only; YAML has lists.
TUPLES = ("crop_size", "ratio_range", "scale", "size")


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


def heads_of(holder, key):
    found = holder.get(key) or []
    return found if isinstance(found, (list, tuple)) else [found]


def add_in_channels(model, models, torch):
    """segcore takes the widths of maps from the backbone and the neck; MMSegmentation has to be told."""
    heads = heads_of(model, "decode_head") + heads_of(model, "auxiliary_head")
    wanted = [part for part in [model.get("neck"), *heads] if part and "in_channels" not in part]
    if not wanted:
        return

    def outputs(part, inputs):
        module = models.build(part)
        module.eval()  # some return nothing
        with torch.no_grad():
            return module(inputs)

    maps = outputs(model.backbone, torch.zeros(1, model.backbone.get("in_channels", 3), 64, 64))
    if model.get("neck"):
        if model.neck in wanted:
            model.neck.in_channels = [x.shape[1] for x in maps]
        maps = outputs(model.neck, maps)
    for head in heads:
        if head in wanted:
            index = head.get("in_index", -1)
            head.in_channels = ([maps[i].shape[1] for i in index] if isinstance(index, (list, tuple))
                                else maps[index].shape[1])
