"""Writes known_datasets.json: what MMSegmentation states of each data set.

    python make_known_datasets.py FOLDER    # the unpacked wheel of mmsegmentation 1.2.2

Reads the sources without importing them. `digest` is the SHA-256 of one line a class, "name r g b", without blanks
around the name; a data set without colours has lines of names alone.
"""
import ast
import hashlib
import json
import pathlib
import sys

NOT_KNOWN = {"BaseSegDataset", "BaseCDDataset", "MultiImageMixDataset", "DSDLSegDataset", "DecathlonDataset"}


def facts(node):
    """Classes, palette and the defaults of __init__ of a class."""
    meta, defaults = {}, {}
    for part in node.body:
        if isinstance(part, ast.Assign) and part.targets[0].id == "METAINFO":
            meta = {k.arg: ast.literal_eval(k.value) for k in getattr(part.value, "keywords", [])}
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            names = [a.arg for a in part.args.args][-len(part.args.defaults):] if part.args.defaults else []
            for name, value in zip(names, part.args.defaults):
                if isinstance(value, ast.Constant):
                    defaults[name] = value.value
            if not defaults:
                # REFUGE passes them on as constants.
                call = next(c for c in ast.walk(part) if isinstance(c, ast.Call) and c.keywords)
                defaults = {k.arg: k.value.value for k in call.keywords if isinstance(k.value, ast.Constant)}
    return [n.id for n in node.bases], meta, defaults


def main():
    found = {}
    for path in sorted((pathlib.Path(sys.argv[1]) / "mmseg/datasets").glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                found[node.name] = facts(node)
    lines = []
    for name, (bases, meta, defaults) in sorted(found.items()):
        if name in NOT_KNOWN:
            continue
        meta = meta or found[bases[0]][1]
        classes, palette = meta["classes"], meta.get("palette", [])
        text = "".join(
            " ".join([n.strip(), *map(str, palette[i] if palette else ())]) + "\n" for i, n in enumerate(classes))
        lines.append(json.dumps({
            "type": name, "classes": len(classes), "colors": len(palette),
            "img_suffix": defaults.get("img_suffix", ".jpg"),
            "seg_map_suffix": defaults.get("seg_map_suffix", defaults.get("depth_map_suffix", ".png")),
            "reduce_zero_label": defaults.get("reduce_zero_label", False),
            "digest": hashlib.sha256(text.encode()).hexdigest()}))
    out = '{"made_by": "make_known_datasets.py from MMSegmentation 1.2.2",\n "datasets": [\n' + ",\n".join(lines) + "]}\n"
    (pathlib.Path(__file__).parent / "known_datasets.json").write_text(out)


main()
