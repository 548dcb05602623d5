# First write the lookup table:
# python tools/export_lookup_table.py configs/qeeps/qeeps_r50-c4_20e_cuhk-sysu.py \
#     work_dirs/qeeps_r50-c4_20e_cuhk-sysu/epoch_20.pth --dims 256 \
#     --out work_dirs/qeeps_r50-c4_20e_cuhk-sysu/lookup_table_256.npz
_base_ = '../oim/oim_r50-c4_50k_cuhk-sysu.py'
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='LookupTableHook', path='work_dirs/qeeps_r50-c4_20e_cuhk-sysu/lookup_table_256.npz'),
]
