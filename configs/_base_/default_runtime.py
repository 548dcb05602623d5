default_scope = 'mmps'
custom_imports = dict(imports=['mmps'], allow_failed_imports=False)

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='SafeCheckpointHook', interval=1, max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    sync_buffers=dict(type='SyncBuffersHook'),  # so that all ranks test and save the same statistics
    visualization=dict(type='SearchVisualizationHook'),  # draw=True draws pictures of every validation and test
)
custom_hooks = [
    dict(type='IdentityHook'),
    dict(type='StopOnInvalidLossHook'),
    dict(type='SkippedStepHook'),  # with --amp, restores the buffers after a step that overflows
    dict(type='SeedHook'),  # with DueValidationHook, makes a resumed training equal
    dict(type='DueValidationHook'),  # to an uninterrupted one
]

env_cfg = dict(cudnn_benchmark=False, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0), dist_cfg=dict(backend='nccl'))
randomness = dict(seed=0)

# For TensorBoard: visualizer = dict(vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')])
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='SearchVisualizer', vis_backends=vis_backends, name='visualizer')
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=True)

log_level = 'INFO'
load_from = None
resume = False
