"""What a model finds in the test part of a data set."""

import numpy as np

from mmps.datasets import PersonSearchDataset
from mmps.evaluation import Predictions

from .detections import to_numpy
from .inferencer import PersonSearchInferencer
from .video import Frame, read_image


def predict_test_set(inferencer: PersonSearchInferencer, dataset: PersonSearchDataset) -> Predictions:
    """Returns the predictions of a model, which may be an exported one, for all images and queries of a test set.

    Args:
        inferencer: The model. Persons below its ``score_thr`` are left out.
        dataset: The data set in test mode, from :func:`mmps.apis.build_test_set`.
    """
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    asked = [info.get('queries', []) for info in infos]
    frames = (Frame(info['img_path'], 0, 0.0, read_image(info['img_path'])) for info in infos)
    given = [[(x1, y1, x2 - x1, y2 - y1) for x1, y1, x2, y2 in (query['bbox'] for query in of_image)] for of_image in asked]
    samples = [sample for _, sample in inferencer.detect(frames, given)]
    queries = np.zeros((sum(map(len, asked)), inferencer.embed_dims), np.float32)
    for of_image, sample in zip(asked, samples, strict=True):
        if of_image:
            queries[[query['query_id'] for query in of_image]] = to_numpy(sample.query_instances.embeddings)
    boxes, scores, embeddings = (
        [to_numpy(sample.pred_instances[name]) for sample in samples] for name in ('bboxes', 'scores', 'embeddings')
    )
    return Predictions(tuple(info['img_name'] for info in infos), boxes, scores, embeddings, queries)
