import time

from cpadvisor.ring_order import best_tour


def ranks(size, rank):
    return tuple(tuple(0 if a == b else rank(min(a, b), max(a, b)) for b in range(size)) for a in range(size))


def test_like_links_keep_the_order_of_the_positions():
    assert best_tour(ranks(16, lambda a, b: 28)) == tuple(range(16))


def test_the_slowest_hop_counts_before_the_sum():
    # 0-1-3-2 sums to 1 + 6 + 40 + 6 = 53 over a hop of 1; 0-2-1-3 sums to 6 + 5 + 6 + 5 = 22 with none below 5.
    square = {(0, 1): 1, (2, 3): 40, (1, 2): 5, (0, 3): 5, (0, 2): 6, (1, 3): 6}
    assert best_tour(ranks(4, lambda a, b: square[a, b])) == (0, 2, 1, 3)


def test_of_tours_with_the_same_slowest_hop_the_greater_sum_wins():
    # Every link is at least 5; 0-1-3-2 takes both links of 20, 0-1-2-3 takes none.
    square = {(0, 1): 5, (1, 2): 5, (2, 3): 5, (0, 3): 5, (0, 2): 20, (1, 3): 20}
    assert best_tour(ranks(4, lambda a, b: square[a, b])) == (0, 1, 3, 2)


def test_a_ring_hidden_among_sixteen_unlike_positions_is_found_in_bounded_time():
    hidden = (0, 7, 14, 5, 12, 3, 10, 1, 8, 15, 6, 13, 4, 11, 2, 9)
    hops = {frozenset(hop) for hop in zip(hidden, (*hidden[1:], hidden[0]), strict=True)}
    started = time.process_time()
    tour = best_tour(ranks(16, lambda a, b: 12 if frozenset((a, b)) in hops else 1 + (a * b) % 5))
    assert {frozenset(hop) for hop in zip(tour, (*tour[1:], tour[0]), strict=True)} == hops
    assert tour[0] == 0 and tour[1] < tour[-1]
    assert time.process_time() - started < 20
