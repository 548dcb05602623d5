# SeqNet (Li and Miao, AAAI 2021) on ResNet-50 C4, as published: Faster R-CNN's head finds boxes, NAE's head embeds them.
_base_ = './nae_r50_c4.py'
model = dict(
    roi_head=dict(
        _delete_=True,
        type='SequentialRoIHead',
        first=dict(
            type='StandardRoIHead',
            shared_head=dict(
                type='PooledResLayer',
                depth=50,
                norm_eval=False,
                init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
            ),
            bbox_roi_extractor={{_base_.norm_aware_head.bbox_roi_extractor}},
            bbox_head=dict(
                type='BBoxHead',
                roi_feat_size=1,
                in_channels=2048,
                num_classes=1,
                bbox_coder=dict(type='BoxDeltaCoder', target_stds=[0.1, 0.1, 0.2, 0.2]),
                loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False),
                loss_bbox=dict(type='SmoothL1Loss', loss_weight=10.0),
            ),
        ),
        second={{_base_.norm_aware_head}},
    ),
    test_cfg=dict(
        rcnn=dict(
            _delete_=True,
            first=dict(score_thr=0.5, nms=dict(type='nms', iou_threshold=0.4), max_per_img=300),
            second=dict(score_thr=0.5, nms=dict(type='nms', iou_threshold=0.5), max_per_img=300),
        )
    ),
)
