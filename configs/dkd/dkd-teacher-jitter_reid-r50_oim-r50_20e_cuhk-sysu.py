# With image-level augmentation of the teacher, without feature-level augmentation of the student.
_base_ = './dkd_reid-r50_oim-r50_20e_cuhk-sysu.py'
model = dict(box_jitter=0.0, distiller=dict(reid_jitter=0.0))
