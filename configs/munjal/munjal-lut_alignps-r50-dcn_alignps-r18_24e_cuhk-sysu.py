# First write the lookup table:
# python tools/export_lookup_table.py configs/alignps/alignps_r50-dcn_24e_cuhk-sysu.py \
#     work_dirs/alignps_r50-dcn_24e_cuhk-sysu/epoch_24.pth --dims 256 \
#     --out work_dirs/alignps_r50-dcn_24e_cuhk-sysu/lookup_table_256.npz
_base_ = '../alignps/alignps_r18_24e_cuhk-sysu.py'
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='LookupTableHook', path='work_dirs/alignps_r50-dcn_24e_cuhk-sysu/lookup_table_256.npz'),
]
