"""What tools/benchmark_mmseg.py makes of a resolved config. Run: python3 tests/python/test_mmseg_config.py"""
import contextlib
import pathlib
import sys
import types
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
from mmseg_config import adapted, add_in_channels, add_scopes  # noqa: E402

OWN = {"EncoderDecoder", "ResNet", "UPerHead", "Mask2FormerHead", "CrossEntropyLoss"}
TYPES = {"mmdet": {"ResNet", "CrossEntropyLoss", "MSDeformAttnPixelDecoder", "HungarianAssigner"},
          "mmpretrain": {"ResNet", "ConvNeXt"}}


class Libraries:
    def __init__(self, types):
        self.types, self.asked = types, []

    def has(self, scope, name):
        self.asked.append(scope)
        return name in self.types.get(scope, ())


def scoped(model, types=TYPES):
    libraries = Libraries(types)
    add_scopes(model, OWN.__contains__, libraries)
    return libraries.asked


class Scopes(unittest.TestCase):
    def test_types_of_mmsegmentation_stay(self):
        model = {"type": "EncoderDecoder", "backbone": {"type": "ResNet", "init_cfg": {"type": "Constant"}}}
        self.assertEqual(scoped(model), [], "no library is imported")
        self.assertEqual(model["backbone"], {"type": "ResNet", "init_cfg": {"type": "Constant"}})

    def test_a_type_that_it_lacks_is_named_with_its_library(self):
        model = {"type": "EncoderDecoder", "backbone": {"type": "ConvNeXt"}}
        scoped(model)
        self.assertEqual(model["backbone"]["type"], "mmpretrain.ConvNeXt")
        missing = {"backbone": {"type": "ConvNeXt"}}
        scoped(missing, {})
        self.assertEqual(missing["backbone"]["type"], "ConvNeXt")

    def test_parts_of_a_query_head_are_of_mmdetection(self):
        head = {"type": "Mask2FormerHead", "pixel_decoder": {"type": "MSDeformAttnPixelDecoder"},
                "loss_cls": {"type": "CrossEntropyLoss"}, "norm_cfg": {"type": "GN"},
                "train_cfg": {"assigner": {"type": "HungarianAssigner"}}}
        model = {"decode_head": head, "auxiliary_head": [{"loss_decode": {"type": "CrossEntropyLoss"}}]}
        scoped(model)
        self.assertEqual(head["type"], "Mask2FormerHead")
        self.assertEqual(head["loss_cls"]["type"], "mmdet.CrossEntropyLoss")
        self.assertEqual(head["pixel_decoder"]["type"], "mmdet.MSDeformAttnPixelDecoder")
        self.assertEqual(head["train_cfg"]["assigner"]["type"], "mmdet.HungarianAssigner")
        self.assertEqual(head["norm_cfg"]["type"], "GN")
        self.assertEqual(model["auxiliary_head"][0]["loss_decode"]["type"], "CrossEntropyLoss")


class Adapted(unittest.TestCase):
    def test_one_process_without_weights(self):
        config = adapted({"norm_cfg": {"type": "SyncBN"}, "pretrained": "a.pth",
                          "init_cfg": [{"type": "Pretrained", "checkpoint": "a.pth"}, {"type": "Kaiming"}]})
        self.assertEqual(config, {"norm_cfg": {"type": "BN"}, "pretrained": None,
                                  "init_cfg": [{"type": "Kaiming"}]})

    def test_sizes_are_tuples(self):
        config = adapted({"img_size": [512, 256], "scales": [1, 2], "scale": [[1, 2]]})
        self.assertEqual(config, {"img_size": (512, 256), "scales": [1, 2], "scale": [[1, 2]]})


class Attributes(dict):
    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__


class Maps:
    """Four maps of each backbone; necks hand them on."""

    def __init__(self):
        self.sizes = []

    def get(self, name):
        return {"Wide": self.wide, "Single": self.single}.get(name)

    def wide(self, in_channels):
        pass

    def single(self, embed_dim):
        pass

    def build(self, part):
        def module(inputs):
            if part["type"] in ("Wide", "Single"):
                return inputs
            self.sizes.append(inputs.shape)
            return [types.SimpleNamespace(shape=(1, width)) for width in (8, 16, 32, 64)]
        return Module(module)


class Module:
    def __init__(self, f):
        self.f = f

    def eval(self):
        pass

    def __call__(self, inputs):
        return self.f(inputs)


class InChannels(unittest.TestCase):
    def filled(self, **model):
        parts = {key: Attributes(value) for key, value in model.items()}
        maps = Maps()
        torch = types.SimpleNamespace(no_grad=contextlib.nullcontext,
                                      zeros=lambda *shape: types.SimpleNamespace(shape=shape))
        add_in_channels(Attributes(parts), maps, torch)
        return parts, maps.sizes

    def test_of_one_map_of_several_and_of_all(self):
        parts, _ = self.filled(backbone={"type": "ResNet"}, neck={"type": "Wide"},
                               decode_head={"type": "UPerHead", "in_index": [0, 2]},
                               auxiliary_head={"type": "FCNHead"})
        self.assertEqual(parts["neck"]["in_channels"], [8, 16, 32, 64])
        self.assertEqual(parts["decode_head"]["in_channels"], [8, 32])
        self.assertEqual(parts["auxiliary_head"]["in_channels"], 64)
        parts, _ = self.filled(backbone={"type": "ResNet"}, neck={"type": "Single"},
                               decode_head={"type": "Mask2FormerHead"})
        self.assertNotIn("in_channels", parts["neck"])
        self.assertEqual(parts["decode_head"]["in_channels"], [8, 16, 32, 64])

    def test_images_are_small_where_the_backbone_takes_them(self):
        head = {"type": "FCNHead"}
        for backbone, size in (({"type": "ResNet", "img_size": 512}, (64, 64)),
                               ({"type": "BEiT", "img_size": (512, 256)}, (512, 256)),
                               ({"type": "BEiT", "img_size": (512,)}, (512, 512)),
                               ({"type": "MAE"}, (224, 224))):
            _, sizes = self.filled(backbone=dict(backbone), decode_head=dict(head))
            self.assertEqual(sizes, [(1, 3, *size)])


if __name__ == "__main__":
    unittest.main()
