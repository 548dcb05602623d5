# Without moved boxes in the training of teacher and student.
_base_ = './dkd_reid-r50_oim-r50_20e_cuhk-sysu.py'
model = dict(
    box_jitter=0.0,
    teacher=dict(cfg_path='mmps::reid/reid_r50-no-jitter_20e_cuhk-sysu.py'),
    teacher_ckpt='work_dirs/reid_r50-no-jitter_20e_cuhk-sysu/epoch_20.pth',
    distiller=dict(reid_jitter=0.0),
)
