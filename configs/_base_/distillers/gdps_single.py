# gdps_fpn.py's relation and response, and its feature knowledge from one map of the teacher to one of the student: for
# detectors that share a stride, not a neck. The numbers are AlignPS's; a config with other maps sets its own.
_base_ = './gdps_fpn.py'
student_level, teacher_level, stride = 0, 0, 8
student_channels, teacher_channels = 256, 256
distiller = dict(
    connectors=dict(
        _delete_=True,
        neck=dict(
            type='mmrazor.ConvModuleConnector',
            in_channel=student_channels,
            out_channel=teacher_channels,
            kernel_size=1,
            act_cfg=None)),
    distill_losses=dict(
        _delete_=True,
        loss_relation=_base_.distiller.distill_losses.loss_relation,
        loss_response=_base_.distiller.distill_losses.loss_response,
        # The weight of an FPN's four levels together.
        loss_feature=dict(type='PersonFeatureLoss', stride=stride, loss_weight=2.0)),
    loss_forward_mappings=dict(
        _delete_=True,
        loss_relation=_base_.distiller.loss_forward_mappings.loss_relation,
        loss_response=_base_.distiller.loss_forward_mappings.loss_response,
        loss_feature=dict(
            student=dict(from_student=True, recorder='feats', data_idx=student_level, connector='neck'),
            teacher=dict(from_student=False, recorder='feats', data_idx=teacher_level),
            boxes=dict(from_student=True, recorder='persons', data_idx=1))))
