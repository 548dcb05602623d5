# What the methods that compare maps share: every map that both detectors have, the student's through a 1x1 convolution.
# A loss's value is the mean over the maps.
distil = dict(
    type='PersonSearchDistill',
    distiller=dict(
        type='mmrazor.ConfigurableDistiller',
        student_recorders=dict(feats=dict(type='MethodOutputs', source='extract_feat')),
        teacher_recorders=dict(feats=dict(type='MethodOutputs', source='extract_feat')),
        connectors=dict(
            neck=dict(
                type='mmrazor.ConvModuleConnector',
                in_channel='student_channels',
                out_channel='teacher_channels',
                kernel_size=1,
                act_cfg=None,
            )
        ),
        loss_forward_mappings=dict(
            loss_feature=dict(
                preds_S=dict(from_student=True, recorder='feats', data_idx='student_level', connector='neck'),
                preds_T=dict(from_student=False, recorder='feats', data_idx='teacher_level'),
            )
        ),
    ),
)
