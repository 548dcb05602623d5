# First write the lookup table:
# python tools/export_lookup_table.py configs/oim/oim_r18-w32-fpn_10e_synthps-mini.py \
#     work_dirs/oim_r18-w32-fpn_10e_synthps-mini/epoch_10.pth --dims 128 \
#     --out work_dirs/oim_r18-w32-fpn_10e_synthps-mini/lookup_table_128.npz
_base_ = './munjal-detector_frcnn-r18-w32_oim-r18-w8_10e_synthps-mini.py'
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='LookupTableHook', path='work_dirs/oim_r18-w32-fpn_10e_synthps-mini/lookup_table_128.npz'),
]
