# SeqNet by the recipe of the model for photographs.
_base_ = [
    '../_base_/models/seqnet_mobilenetv2-c64_fpn.py',
    '../_base_/datasets/synthps_photo.py',
    '../_base_/schedules/schedule_3e_pretrained.py',
    '../_base_/default_runtime.py',
]
model = dict(
    rpn_head=dict(anchor_generator=dict(scales=[5, 9])),
    roi_head=dict(
        second=dict(
            bbox_roi_extractor=dict(featmap_strides=[4], roi_layer=dict(sampling_ratio=0)), reid_loss=dict(loss_weight=0.1)
        )
    ),
    train_cfg=dict(rpn=dict(sampler=dict(num=128)), rpn_proposal=dict(nms_pre=500, max_per_img=200)),
    test_cfg=dict(
        rpn=dict(nms_pre=1000, max_per_img=300),
        rcnn=dict(first=dict(score_thr=0.05, max_per_img=100), second=dict(score_thr=0.05, max_per_img=100)),
    ),
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.2))))
