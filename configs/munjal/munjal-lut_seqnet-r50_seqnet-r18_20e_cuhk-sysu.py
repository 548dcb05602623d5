# First write the lookup table:
# python tools/export_lookup_table.py configs/seqnet/seqnet_r50-c4_20e_cuhk-sysu.py \
#     work_dirs/seqnet_r50-c4_20e_cuhk-sysu/epoch_20.pth --dims 256 \
#     --out work_dirs/seqnet_r50-c4_20e_cuhk-sysu/lookup_table_256.npz
_base_ = '../seqnet/seqnet_r18-fpn_20e_cuhk-sysu.py'
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='LookupTableHook', path='work_dirs/seqnet_r50-c4_20e_cuhk-sysu/lookup_table_256.npz'),
]
