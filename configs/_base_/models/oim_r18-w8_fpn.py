# ResNet-18 at an eighth of its width, a 32-channel FPN and few proposals: trains from scratch on two CPU cores. So few
# steps need embeddings that are standardised, a softer OIM than the paper's, and one that leaves detection its share.
_base_ = './oim_r18_fpn.py'
model = dict(
    backbone=dict(
        base_channels=8, frozen_stages=-1, norm_eval=False, init_cfg=dict(_delete_=True, type='Kaiming', layer='Conv2d')
    ),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=32, num_outs=4),
    rpn_head=dict(in_channels=32, feat_channels=32, anchor_generator=dict(scales=[8], ratios=[2.5], strides=[4, 8, 16, 32])),
    roi_head=dict(
        bbox_roi_extractor=dict(roi_layer=dict(sampling_ratio=1), out_channels=32),
        bbox_head=dict(in_channels=32, fc_out_channels=128),
        embedding_head=dict(in_channels=32, embed_dims=128, batch_norm=True),
        reid_loss=dict(embed_dims=128, queue_size=200, momentum=0.9, scale=16.0, loss_weight=0.5),
    ),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)), rpn_proposal=dict(nms_pre=200, max_per_img=100), rcnn=dict(sampler=dict(num=64))
    ),
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=50), rcnn=dict(max_per_img=20)),
)
