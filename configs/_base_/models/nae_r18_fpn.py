# NAE over an FPN: SeqNet's second head alone, on the RPN's boxes. Box regression has weight 10, as in the published training.
_base_ = './seqnet_r18_fpn.py'
norm_aware_head = _base_.model.roi_head.second
norm_aware_head.bbox_head.loss_bbox.update(loss_weight=10.0)
model = dict(
    roi_head=dict(_delete_=True, **norm_aware_head),
    test_cfg=dict(rcnn=dict(_delete_=True, score_thr=0.5, nms=dict(type='nms', iou_threshold=0.4), max_per_img=300)),
)
