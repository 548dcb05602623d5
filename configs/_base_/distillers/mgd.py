# MGD (Yang et al., ECCV 2022): the student generates the teacher's whole map from its own masked map. Weight and masked
# fraction are those of the authors' configs for one-stage detectors. The teacher's map is standardised first, so that the loss
# has the same size for any teacher. mgd-two-stage.py has the authors' form for two-stage detectors.
distil = dict(
    distiller=dict(
        type='PersonSearchDistiller',
        student_recorders=dict(feats=dict(type='FeatureMaps')),
        teacher_recorders=dict(feats=dict(type='FeatureMaps', standardised=True)),
        connectors=dict(neck=dict(type='mmrazor.MGDConnector', lambda_mgd=0.65, per_level=True)),
        distill_losses=dict(loss_feature=dict(type='mmrazor.MGDLoss', alpha_mgd=2e-5, per_level=True)),
        loss_forward_mappings=dict(
            loss_feature=dict(
                preds_S=dict(from_student=True, recorder='feats', connector='neck'),
                preds_T=dict(from_student=False, recorder='feats'),
            )
        ),
    )
)
