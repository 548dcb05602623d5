# RoI-AlignPS for two CPU cores: the dense head detects, and OIM's small RoI head, on the backbone's map of stride 8, embeds.
_base_ = './alignps_r18-w8.py'
model = dict(
    backbone=dict(base_channels=16),
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=64, start_level=1, num_outs=5, norm_cfg=dict(type='BN')),
    bbox_head=dict(
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        strides=[8, 16, 32, 64, 128],
        center_sample_radius=1.5,
        reid_loss=dict(embed_dims=64, momentum=0.5, loss_weight=0.25),
    ),
    roi_level=1,
    roi_head=dict(
        type='PersonSearchRoIHead',
        bbox_roi_extractor=dict(
            type='SingleRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=1),
            out_channels=32,
            featmap_strides=[8],
        ),
        bbox_head=dict(
            type='Shared2FCBBoxHead',
            in_channels=32,
            fc_out_channels=128,
            roi_feat_size=7,
            num_classes=1,
            bbox_coder=dict(type='BoxDeltaCoder', target_stds=[0.1, 0.1, 0.2, 0.2]),
            loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False),
            loss_bbox=dict(type='L1Loss'),
        ),
        embedding_head=dict(type='EmbeddingHead', in_channels=32, embed_dims=128, roi_feat_size=(7, 7), batch_norm=True),
        reid_loss=dict(type='OIMLoss', embed_dims=128, queue_size=200, scale=16.0, loss_weight=0.5),
    ),
    train_cfg=dict(
        _delete_=True,
        rpn_proposal=dict(nms_pre=200, score_thr=0.0, nms=dict(type='nms', iou_threshold=0.7), max_per_img=100),
        rcnn=dict(
            assigner=dict(
                type='MaxIoUAssigner',
                pos_iou_thr=0.5,
                neg_iou_thr=0.5,
                min_pos_iou=0.5,
                match_low_quality=False,
                ignore_iof_thr=0.5,
            ),
            sampler=dict(type='RandomSampler', num=64, pos_fraction=0.5, neg_pos_ub=-1, add_gt_as_proposals=True),
            pos_weight=-1,
            debug=False,
        ),
    ),
    test_cfg=dict(rcnn=dict(score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)),
)
