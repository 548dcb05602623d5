# OIM as published (Xiao et al., CVPR 2017, figure 2): ResNet-50 up to conv4, RPN, RoI pooling, conv5 and three branches.
_base_ = './oim_r50_fpn.py'
model = dict(
    backbone=dict(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,)),
    neck=None,
    rpn_head=dict(
        in_channels=1024,
        feat_channels=1024,
        anchor_generator=dict(scales=[2, 4, 8, 16, 32], ratios=[0.5, 1.0, 2.0], strides=[16]),
    ),
    roi_head=dict(
        shared_head=dict(
            type='ResLayer',
            depth=50,
            stage=3,
            stride=2,
            dilation=1,
            style='pytorch',
            norm_cfg=dict(type='BN', requires_grad=True),
            norm_eval=True,
            init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
        ),
        bbox_roi_extractor=dict(roi_layer=dict(output_size=14), out_channels=1024, featmap_strides=[16]),
        bbox_head=dict(
            _delete_=True,
            type='BBoxHead',
            with_avg_pool=True,
            roi_feat_size=7,
            in_channels=2048,
            num_classes=1,
            bbox_coder=dict(type='BoxDeltaCoder', target_stds=[0.1, 0.1, 0.2, 0.2]),
            loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False),
            loss_bbox=dict(type='SmoothL1Loss'),
        ),
        embedding_head=dict(in_channels=2048, roi_feat_size=None),
    ),
    train_cfg=dict(rpn_proposal=dict(nms_pre=12000, max_per_img=2000), rcnn=dict(sampler=dict(num=128, pos_fraction=0.25))),
    test_cfg=dict(rcnn=dict(nms=dict(iou_threshold=0.4))),
)
