"""What tools/benchmark_mmseg.py makes of a resolved config. Run: python3 tests/python/test_mmseg_config.py"""
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
from mmseg_config import adapted, add_scopes  # noqa: E402

OWN = {"EncoderDecoder", "ResNet", "UPerHead", "Mask2FormerHead", "CrossEntropyLoss"}
BESIDE = {"mmdet": {"ResNet", "CrossEntropyLoss", "MSDeformAttnPixelDecoder", "HungarianAssigner"},
          "mmpretrain": {"ResNet", "ConvNeXt"}}


class Scopes(unittest.TestCase):
    def test_types_of_mmsegmentation_stay(self):
        model = {"type": "EncoderDecoder", "backbone": {"type": "ResNet", "norm_cfg": {"type": "BN"}}}
        add_scopes(model, OWN, BESIDE)
        self.assertEqual(model["backbone"], {"type": "ResNet", "norm_cfg": {"type": "BN"}})

    def test_a_type_that_it_lacks_is_named_with_its_library(self):
        model = {"type": "EncoderDecoder", "backbone": {"type": "ConvNeXt"}}
        add_scopes(model, OWN, BESIDE)
        self.assertEqual(model["backbone"]["type"], "mmpretrain.ConvNeXt")
        missing = {"backbone": {"type": "ConvNeXt"}}
        add_scopes(missing, OWN, {})
        self.assertEqual(missing["backbone"]["type"], "ConvNeXt")

    def test_parts_of_a_query_head_are_of_mmdetection(self):
        head = {"type": "Mask2FormerHead", "pixel_decoder": {"type": "MSDeformAttnPixelDecoder"},
                "loss_cls": {"type": "CrossEntropyLoss"}, "norm_cfg": {"type": "GN"},
                "train_cfg": {"assigner": {"type": "HungarianAssigner"}}}
        model = {"decode_head": head, "auxiliary_head": [{"loss_decode": {"type": "CrossEntropyLoss"}}]}
        add_scopes(model, OWN, BESIDE)
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


if __name__ == "__main__":
    unittest.main()
