# PKD (Cao et al., NeurIPS 2022): 1 - Pearson correlation of every channel. The weight is the paper's weight of each FPN level.
distil = dict(
    distiller=dict(
        type='PersonSearchDistiller',
        student_recorders=dict(feats=dict(type='FeatureMaps')),
        teacher_recorders=dict(feats=dict(type='FeatureMaps')),
        connectors=dict(neck=dict(type='mmrazor.ConvModuleConnector', kernel_size=1, act_cfg=None, per_level=True)),
        distill_losses=dict(loss_feature=dict(type='mmrazor.PKDLoss', resize_stu=False, loss_weight=6.0, per_level=True)),
        loss_forward_mappings=dict(
            loss_feature=dict(
                preds_S=dict(from_student=True, recorder='feats', connector='neck'),
                preds_T=dict(from_student=False, recorder='feats'),
            )
        ),
    )
)
