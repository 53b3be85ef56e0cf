"""Law 2 for every entry of the registries: a test compares it with a slow, obvious version. A new entry is named here.

Scores and novelties need no list: `test_top_score_is_a_full_sort` and `test_every_novelty_is_its_slow_version` take all
of them from their registries.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from suite import in_make_test

from raysal.models.trainers import TRAINERS
from raysal.narrowing import NARROWERS
from raysal.strategies import SELECTORS

STRATEGIES = {
    "alfa_mix": "test_alfa_mix_flags_what_the_published_interpolation_flips",
    "badge": "test_badge_is_the_race_over_dense_gradients",
    "bait": "test_bait_is_the_rule_of_the_paper",
    "batch_bald": "test_batch_bald_is_the_greedy_joint_information",
    "class_balanced": "test_class_balanced_is_the_strategy_inside_each_class_in_turns",
    "clue": "test_clue_picks_the_middles_of_entropy_weighted_clusters",
    "coreset": "test_coreset_is_greedy_k_center",
    "drop_query": "test_dropquery_flags_as_written_out",
    "epig": "test_epig_is_the_information_on_the_labels_of_targets",
    "falcun": "test_falcun_is_the_sequential_draw",
    "fantasy": "test_the_likeliest_label_as_if_it_were_true_is_the_slow_loop",
    "isal": "test_isal_is_minus_the_influence_by_the_whole_hessian",
    "kmeans_plus_plus": "test_k_means_plus_plus_covers_from_the_labelled_items",
    "lcmd": "test_lcmd_takes_the_farthest_item_of_the_heaviest_cluster",
    "ldm": "test_ldm_is_the_least_over_disturbed_heads",
    "max_herding": "test_max_herding_is_the_published_greedy",
    "novelty": "test_the_most_novel_items_are_picked_and_kept",
    "pcoreset": "test_pcoreset_is_k_center_over_probabilities",
    "power_bald": "test_power_bald_draws_by_what_a_label_says_alone",
    "power_margin": "test_power_margin_adds_gumbel_noise_to_the_log",
    "probcover": "test_probcover_is_the_published_loop_and_then_farthest_first",
    "random": "test_random_is_the_lowest_hashes",
    "reveal": "test_reveal_is_the_slow_loop",
    "search": "test_search_is_the_slow_loop",
    "skip_extremes": "test_skip_extremes_is_the_strategy_inside_between_the_quantiles",
    "top_score": "test_top_score_is_a_full_sort",
    "typiclust": "test_typiclust_is_as_written_out",
    "u_herding": "test_u_herding_is_the_published_greedy_at_the_calibrated_temperature",
}
RULES = {
    "anchoral": "test_anchoral_is_the_top_of_the_mean_over_the_anchors_that_found_it",
    "filter": "test_near_duplicates_go",
    "mixed": "test_each_part_gives_what_it_would_alone_and_nothing_twice",
    "none": "test_a_batch_is_k_distinct_offered_ids",  # it computes nothing: every strategy is tried on the whole pool
    "novelty": "test_the_most_novel_items_are_picked_and_kept",
    "refine": "test_every_round_is_that_of_a_slow_loop",
    "seals": "test_the_union_over_the_rounds_is_that_of_a_slow_loop",
    "top_score": "test_top_score_is_a_full_sort",
    "uniform": "test_uniform_narrowing_is_the_lowest_hashes",
}
FITS = {
    "bootstrap": "test_a_member_is_the_fit_to_its_resample_in_the_frame_and_with_the_penalty_of_all_labels",
    "custom": "test_plain_weights_are_the_mean_and_get_the_posterior_of_logistic",
    "dmle": "test_the_objective_is_the_formula_and_its_gradient_is_its_slope",
    "logistic": "test_agrees_with_newton_on_the_full_hessian",
    "mc_dropout": "test_dropout_minimises_the_loss_over_masked_copies_and_members_are_the_masked_mean",
    "mlp": "test_its_last_layer_is_the_fit_to_what_its_hidden_layer_shows",
    "multi_label": "test_every_label_is_a_logistic_regression_by_itself",
    "pseudo_labels": "test_it_is_the_fixed_point_of_its_guesses",
    "regression": "test_the_posterior_is_the_exact_one",
}


@pytest.mark.parametrize(
    ("named", "registry"),
    [(STRATEGIES, SELECTORS), (RULES, NARROWERS), (FITS, TRAINERS)],
    ids=["strategies", "narrowers", "trainers"],
)
def test_every_part_is_compared_with_a_slow_version(named: Mapping[str, str], registry: Mapping[str, object]) -> None:
    assert sorted(named) == sorted(registry)
    assert not [test for test in named.values() if not in_make_test().get(test)], "not in `make test`"
