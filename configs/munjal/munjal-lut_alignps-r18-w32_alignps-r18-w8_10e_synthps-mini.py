# The table is written by
# python tools/export_lookup_table.py configs/alignps/alignps_r18-w32_10e_synthps-mini.py \
#     work_dirs/alignps_r18-w32_10e_synthps-mini/epoch_10.pth --dims 32 \
#     --out work_dirs/alignps_r18-w32_10e_synthps-mini/lookup_table_32.npz
_base_ = '../alignps/alignps_r18-w8_10e_synthps-mini.py'
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='LookupTableHook', path='work_dirs/alignps_r18-w32_10e_synthps-mini/lookup_table_32.npz'),
]
