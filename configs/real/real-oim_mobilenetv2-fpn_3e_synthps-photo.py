# A small model for photographs. It sees only drawings and ImageNet, of which it is to keep what it learnt.
_base_ = [
    '../_base_/models/oim_mobilenetv2-c64_fpn.py',
    '../_base_/datasets/synthps_photo.py',
    '../_base_/schedules/schedule_3e_pretrained.py',
    '../_base_/default_runtime.py',
]
model = dict(
    rpn_head=dict(anchor_generator=dict(scales=[5, 9])),
    roi_head=dict(
        # One level for persons of all sizes: across levels the same person had a similarity of 0.5.
        reid_roi_extractor=dict(
            type='SingleRoIExtractor', roi_layer=dict(type='RoIAlign', output_size=7), out_channels=64, featmap_strides=[4]
        ),
        reid_loss=dict(loss_weight=0.1),
    ),
    train_cfg=dict(rpn=dict(sampler=dict(num=128)), rpn_proposal=dict(nms_pre=500, max_per_img=200)),
    test_cfg=dict(rpn=dict(nms_pre=1000, max_per_img=300), rcnn=dict(max_per_img=100)),
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.2))))
score_thr = 0.7  # of an inferencer: precision 65 and recall 58 per cent on MOT17-04
