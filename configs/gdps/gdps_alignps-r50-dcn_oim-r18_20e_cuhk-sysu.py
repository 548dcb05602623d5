_base_ = ['../oim/oim_r18-fpn_20e_cuhk-sysu.py', '../_base_/distillers/gdps_single.py']

distiller = _base_.distiller
# The student's level of the stride of the teacher's map.
distiller.loss_forward_mappings.loss_feature.student.data_idx = 1

model = dict(
    _delete_=True,
    type='PersonSearchDistill',
    architecture=_base_.model,
    teacher=dict(cfg_path='mmps::alignps/alignps_r50-dcn_24e_cuhk-sysu.py', pretrained=False),
    teacher_ckpt='work_dirs/alignps_r50-dcn_24e_cuhk-sysu/epoch_24.pth',
    distiller=distiller,
    box_jitter=0.1)
