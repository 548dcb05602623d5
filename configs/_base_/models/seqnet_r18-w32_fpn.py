# Half of ResNet-18's width, and a neck of twice its base's.
_base_ = './seqnet_r18-w8_fpn.py'
model = dict(
    backbone=dict(base_channels=32),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64),
    rpn_head=dict(in_channels=64, feat_channels=64),
    roi_head=dict(
        first=dict(bbox_roi_extractor=dict(out_channels=64), bbox_head=dict(in_channels=64, fc_out_channels=256)),
        second=dict(
            shared_head=dict(in_channels=64, fc_dims=256),
            bbox_roi_extractor=dict(out_channels=64),
            bbox_head=dict(in_channels=256),
            embedding_head=dict(in_channels=[64 * 7 * 7, 256], embed_dims=256),
            reid_loss=dict(embed_dims=256),
        ),
    ),
)
