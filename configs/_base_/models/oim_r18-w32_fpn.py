# Twice the width of its base.
_base_ = './oim_r18-w16_fpn.py'
model = dict(
    backbone=dict(base_channels=32),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=128),
    rpn_head=dict(in_channels=128, feat_channels=128),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=128),
        bbox_head=dict(in_channels=128, fc_out_channels=256),
        embedding_head=dict(in_channels=128, embed_dims=256),
        reid_loss=dict(embed_dims=256)))
