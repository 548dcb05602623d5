# SeqNet's two heads (AAAI 2021) over an FPN, as DDPS (TMM 2024) has them: fully connected layers in the place of res5.
_base_ = './oim_r50_fpn.py'
roi_extractor = dict(
    type='SingleRoIExtractor',
    roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=2),
    out_channels=256,
    featmap_strides=[4, 8, 16, 32],
)
bbox_coder = dict(type='BoxDeltaCoder', target_stds=[0.1, 0.1, 0.2, 0.2])
model = dict(
    roi_head=dict(
        _delete_=True,
        type='SequentialRoIHead',
        first=dict(
            type='StandardRoIHead',
            bbox_roi_extractor=roi_extractor,
            bbox_head=dict(
                type='Shared2FCBBoxHead',
                in_channels=256,
                fc_out_channels=1024,
                roi_feat_size=7,
                num_classes=1,
                bbox_coder=bbox_coder,
                loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False),
                loss_bbox=dict(type='SmoothL1Loss', loss_weight=10.0),
            ),
        ),
        second=dict(
            type='NormAwareRoIHead',
            shared_head=dict(type='RoIFCs', in_channels=256, roi_feat_size=7, fc_dims=1024),
            bbox_roi_extractor=roi_extractor,
            bbox_head=dict(
                type='BBoxHead',
                with_cls=False,
                roi_feat_size=1,
                in_channels=1024,
                num_classes=1,
                reg_predictor_cfg=dict(type='BNLinear'),
                init_cfg=[],
                bbox_coder=bbox_coder,
                loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True),
                loss_bbox=dict(type='SmoothL1Loss'),
            ),
            embedding_head=dict(type='NormAwareEmbedding', in_channels=[256 * 7 * 7, 1024], embed_dims=256),
            reid_loss=dict(type='OIMLoss', embed_dims=256, queue_size=5000, momentum=0.5, scale=30.0),
        ),
    ),
    test_cfg=dict(
        rcnn=dict(
            _delete_=True,
            first=dict(score_thr=0.5, nms=dict(type='nms', iou_threshold=0.4), max_per_img=300),
            second=dict(score_thr=0.5, nms=dict(type='nms', iou_threshold=0.5), max_per_img=300),
        )
    ),
)
