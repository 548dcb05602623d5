# CWD (Shu et al., ICCV 2021): the KL divergence between the softmax of every channel over the places. Temperature and weight
# are those of MMRazor's detection configs, for each FPN level.
distil = dict(
    distiller=dict(
        type='PersonSearchDistiller',
        student_recorders=dict(feats=dict(type='FeatureMaps')),
        teacher_recorders=dict(feats=dict(type='FeatureMaps')),
        connectors=dict(neck=dict(type='mmrazor.ConvModuleConnector', kernel_size=1, act_cfg=None, per_level=True)),
        distill_losses=dict(loss_feature=dict(type='mmrazor.ChannelWiseDivergence', tau=1.0, loss_weight=10.0, per_level=True)),
        loss_forward_mappings=dict(
            loss_feature=dict(
                preds_S=dict(from_student=True, recorder='feats', connector='neck'),
                preds_T=dict(from_student=False, recorder='feats'),
            )
        ),
    )
)
