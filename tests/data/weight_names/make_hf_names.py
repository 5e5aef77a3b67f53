#!/usr/bin/env python3
"""Writes hf_*.txt: names and shapes of small models of transformers 4.57.1 (MobileViT: 5.24.0), one tensor a line.

    make_hf_names.py [FOLDER]      # needs torch, transformers, scipy
"""

import pathlib
import sys

import transformers

SWIN = dict(embed_dim=8, depths=[1, 1, 2, 1], num_heads=[1, 2, 2, 4], window_size=4, image_size=64)
STAGES = [f"stage{i}" for i in range(1, 5)]


def swin():
    return transformers.SwinConfig(**SWIN, out_features=STAGES)


def models():
    mit = transformers.SegformerConfig(
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 16, 24, 32],
        num_attention_heads=[1, 2, 3, 4],
        decoder_hidden_size=16,
        num_labels=5,
    )
    yield "mit", transformers.SegformerForImageClassification(mit)
    yield "segformer", transformers.SegformerForSemanticSegmentation(mit)
    yield "swin", transformers.SwinForImageClassification(swin())
    yield "upernet_swin", transformers.UperNetForSemanticSegmentation(
        transformers.UperNetConfig(
            backbone_config=swin(),
            hidden_size=16,
            num_labels=5,
            auxiliary_channels=8,
            auxiliary_in_channels=32,
        )
    )
    yield "mask2former", transformers.Mask2FormerForUniversalSegmentation(
        transformers.Mask2FormerConfig(
            backbone_config=swin(),
            feature_size=32,
            mask_feature_size=32,
            hidden_dim=32,
            encoder_feedforward_dim=32,
            encoder_layers=2,
            decoder_layers=4,
            num_attention_heads=4,
            dim_feedforward=32,
            num_queries=6,
            num_labels=5,
        )
    )
    yield "maskformer", transformers.MaskFormerForInstanceSegmentation(
        transformers.MaskFormerConfig(
            backbone_config=swin(),
            fpn_feature_size=32,
            mask_feature_size=32,
            decoder_config=transformers.DetrConfig(
                d_model=32,
                decoder_layers=2,
                encoder_layers=0,
                decoder_ffn_dim=32,
                decoder_attention_heads=4,
                num_queries=6,
            ),
            num_labels=5,
        )
    )
    beit = transformers.BeitConfig(
        hidden_size=8,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=64,
        use_relative_position_bias=True,
        out_indices=[1, 2, 3, 4],
        auxiliary_channels=8,
        num_labels=5,
    )
    yield "beit", transformers.BeitForSemanticSegmentation(beit)
    dpt = transformers.DPTConfig(
        hidden_size=8,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=64,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[4, 8, 8, 16],
        fusion_hidden_size=8,
        use_batch_norm_in_fusion_residual=True,
        num_labels=5,
    )
    yield "dpt", transformers.DPTForSemanticSegmentation(dpt)
    mobilevit = transformers.MobileViTConfig(
        hidden_sizes=[8, 12, 16],
        neck_hidden_sizes=[4, 4, 8, 8, 12, 16, 64],
        expand_ratio=2.0,
        output_stride=16,
        aspp_out_channels=8,
        num_labels=5,
    )
    yield "mobilevit", transformers.MobileViTForImageClassification(mobilevit)
    yield "deeplabv3_mobilevit", transformers.MobileViTForSemanticSegmentation(mobilevit)


folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent)
for name, model in models():
    lines = [f"{k} {','.join(map(str, v.shape))}\n" for k, v in model.state_dict().items()]
    (folder / f"hf_{name}.txt").write_text("".join(lines))
