# RoI-AlignPS (Yan et al., arXiv 2109.00211): AlignPS, and NAE's head on C4 for the embeddings of what AlignPS detects.
_base_ = './alignps_r50.py'
model = dict(
    roi_head=dict(
        type='NormAwareRoIHead',
        shared_head=dict(
            type='PooledResLayer',
            depth=50,
            with_input=True,
            style='caffe',
            norm_cfg=dict(type='BN', requires_grad=False),
            norm_eval=True,
            init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://detectron2/resnet50_caffe'),
        ),
        bbox_roi_extractor=dict(
            type='SingleRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=14, sampling_ratio=0),
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
            loss_bbox=dict(type='L1Loss', loss_weight=10.0),
        ),
        embedding_head=dict(type='NormAwareEmbedding', in_channels=[1024, 2048], embed_dims=256),
        reid_loss=dict(type='OIMLoss', embed_dims=256, queue_size=5000, momentum=0.5, scale=30.0),
    ),
    train_cfg=dict(
        _delete_=True,
        # Every box counts, however unlikely: before the head has learnt anything they are all there is.
        rpn_proposal=dict(nms_pre=2000, score_thr=0.0, nms=dict(type='nms', iou_threshold=0.7), max_per_img=1000),
        rcnn=dict(
            assigner=dict(
                type='MaxIoUAssigner',
                pos_iou_thr=0.5,
                neg_iou_thr=0.1,
                min_pos_iou=0.5,
                match_low_quality=False,
                ignore_iof_thr=0.5,
            ),
            sampler=dict(type='RandomSampler', num=128, pos_fraction=0.5, neg_pos_ub=-1, add_gt_as_proposals=True),
            pos_weight=-1,
            debug=False,
        ),
    ),
    test_cfg=dict(rcnn=dict(score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)),
)
