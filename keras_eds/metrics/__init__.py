"""How good a ranking of all items is."""

from keras_eds.metrics.evaluate_ranking import evaluate_ranking
from keras_eds.metrics.ranking_metrics import RankingMetrics
from keras_eds.metrics.ranking_quality import Quality, RankingQuality
from keras_eds.metrics.ranking_scores import RankingScores
from keras_eds.metrics.top_items import top_items

__all__ = [
    "Quality",
    "RankingMetrics",
    "RankingQuality",
    "RankingScores",
    "evaluate_ranking",
    "top_items",
]
