# Half of ResNet-18's width, and a neck and a head of twice the other's.
_base_ = './alignps_r18-w8.py'
model = dict(
    backbone=dict(base_channels=32),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64),
    bbox_head=dict(in_channels=64, feat_channels=64, stacked_convs=2, reid_loss=dict(embed_dims=64)),
)
