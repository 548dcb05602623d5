# NAE over an FPN at an eighth of ResNet-18's width, for two CPU cores: SeqNet's second head alone, on the RPN's boxes. From
# scratch re-identification needs its share, and a lookup table that does not forget other images within a batch.
_base_ = './seqnet_r18-w8_fpn.py'
norm_aware_head = _base_.model.roi_head.second
norm_aware_head.reid_loss.update(momentum=0.9, loss_weight=1.0)
model = dict(
    roi_head=dict(_delete_=True, **norm_aware_head),
    test_cfg=dict(rcnn=dict(_delete_=True, score_thr=0.5, nms=dict(type='nms', iou_threshold=0.4), max_per_img=20)),
)
