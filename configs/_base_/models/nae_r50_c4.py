# NAE (Chen et al., CVPR 2020) on ResNet-50 C4: OIM's detector, where the embedding's norm says whether a box holds a person.
# Numbers that the paper leaves open are those of SeqNet's code, which contains it as its second head.
_base_ = './oim_r50_c4.py'
norm_aware_head = dict(
    type='NormAwareRoIHead',
    shared_head=dict(
        type='PooledResLayer',
        depth=50,
        with_input=True,
        norm_eval=False,
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
    ),
    bbox_roi_extractor=dict(
        type='SingleRoIExtractor',
        roi_layer=dict(type='RoIAlign', output_size=14, sampling_ratio=2, aligned=False),
        out_channels=1024,
        featmap_strides=[16],
    ),
    bbox_head=dict(
        type='BBoxHead',
        with_cls=False,
        roi_feat_size=1,
        in_channels=2048,
        num_classes=1,
        reg_predictor_cfg=dict(type='BNLinear'),
        init_cfg=[],
        bbox_coder=dict(type='BoxDeltaCoder', target_stds=[0.1, 0.1, 0.2, 0.2]),
        loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True),
        loss_bbox=dict(type='SmoothL1Loss'),
    ),
    embedding_head=dict(type='NormAwareEmbedding', in_channels=[1024, 2048], embed_dims=256),
    reid_loss=dict(type='OIMLoss', embed_dims=256, queue_size=5000, momentum=0.5, scale=30.0),
)
model = dict(
    backbone=dict(frozen_stages=0, norm_eval=False),
    rpn_head=dict(anchor_generator=dict(type='RoundedAnchorGenerator'), loss_bbox=dict(type='SmoothL1Loss', beta=1 / 9)),
    roi_head=dict(_delete_=True, **norm_aware_head),
    train_cfg=dict(
        rpn=dict(assigner=dict(min_pos_iou=0.01)),  # every person gets its best anchor
        rcnn=dict(sampler=dict(pos_fraction=0.5)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=6000), rcnn=dict(score_thr=0.5, nms=dict(type='nms', iou_threshold=0.4), max_per_img=300)),
)
