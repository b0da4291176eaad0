// PLEC: the example of the reference, and its order of victims step by step.
#include "cache/eviction/plec_plan.h"
#include "core/rng.h"
#include "support/cache_replay.h"
#include "support/testing.h"

namespace moesim::test {
namespace {

// In the example the first digit of a label is the layer and the second the expert, so that with
// ten experts per layer the label is the key. Layer 0 does not occur.
constexpr RoutingShape kLabels{0, 3, 10};

ExpertKey label(const std::string& text) { return static_cast<ExpertKey>(std::stoul(text)); }

std::vector<ExpertKey> labels(const Json& list) {
  std::vector<ExpertKey> result;
  for (const Json& text : list) result.push_back(label(text.get<std::string>()));
  return result;
}

std::vector<std::vector<ExpertKey>> predicted_path(const Json& example) {
  std::vector<std::vector<ExpertKey>> predicted(kLabels.layers);
  for (const Json& entry : example.at("predicted_by_layer")) {
    predicted[entry.at("layer").get<std::size_t>()] = labels(entry.at("experts"));
  }
  return predicted;
}

std::vector<ExpertKey> held(const ExpertCache& cache) {
  std::vector<ExpertKey> result;
  for (std::uint32_t key = 0; key < kLabels.layers * kLabels.experts; ++key) {
    if (cache.residency(static_cast<ExpertKey>(key)) != Residency::kAbsent) {
      result.push_back(static_cast<ExpertKey>(key));
    }
  }
  return result;
}

EventOutcome run(ExpertCache& cache, std::uint32_t token, std::size_t layer,
                 const std::vector<int>& experts) {
  return cache.visit(token, layer_id(layer), expert_ids(experts));
}

ExpertCache plec_cache(std::uint64_t capacity, Json parameters = Json::object(),
                       const FutureAccesses* future = nullptr) {
  CacheOptions options;
  options.shape = kLabels;
  options.scope = CacheScope::kGlobal;
  options.capacity = capacity;
  parameters["policy"] = "plec";
  return make_cache(options, parameters, future);
}

ExpertKey key(std::uint32_t value) { return static_cast<ExpertKey>(value); }

}  // namespace

TEST_SUITE("cache/eviction/plec") {
  TEST_CASE("the example: slots, what is read before the start, refill and correction") {
    const Json example = golden("plec_example.json");
    const auto predicted = predicted_path(example);
    const auto slots = example.at("capacity").get<std::size_t>();
    const std::vector<std::size_t> demands = {predicted[1].size(), predicted[2].size()};
    const Json& plan = example.at("slot_plan");
    CHECK(plec_slots(demands, slots, PlecSplit::kGreedy) ==
          plan.at("greedy").get<std::vector<std::size_t>>());
    CHECK(plec_slots(demands, slots, PlecSplit::kProportional) ==
          plan.at("proportional").get<std::vector<std::size_t>>());

    PlecPlan step(kLabels, slots, PlecSplit::kGreedy, false);
    step.begin_step(predicted);
    CHECK(step.shares()[1] == 3);
    CHECK(step.shares()[2] == 1);
    std::vector<ExpertKey> order;
    step.append_planned(order);
    CHECK(order == labels(example.at("prefetched_before_start")));

    const Json& done = example.at("steps").at(0);
    const std::vector<ExpertKey> first_layer = predicted[1];
    CHECK(step.route_known(layer_id(1), first_layer).unwanted.empty());
    CHECK(step.compute_done(label(done.at("expert"))) == label(done.at("freed_slot_loads")));
    order.clear();
    step.append_planned(order);
    CHECK(order == labels(done.at("resident_then")));

    const Json& known = example.at("steps").at(1);
    const auto routed = labels(known.at("routed"));
    const PlecPlan::Correction& correction =
        step.route_known(layer_id(known.at("layer").get<std::size_t>()), routed);
    CHECK(correction.missed == labels(known.at("missed")));
    CHECK(correction.unwanted == labels(known.at("unwanted")));
    CHECK(step.has_slot(label("24")));
    CHECK(!step.has_slot(label("23")));
  }

  TEST_CASE("the example in a cache: acceptance test 4") {
    // The token before ran just what is predicted for this one.
    ExpertCache cache = plec_cache(4);
    run(cache, 1, 1, {2, 3, 4});
    run(cache, 1, 2, {2, 3});
    const EventOutcome first = run(cache, 2, 1, {2, 3, 4});
    CHECK(held(cache) == std::vector{key(12), key(13), key(14), key(22)});
    CHECK(first.evicted.back() == key(23));
    std::span<const ExpertKey> evicted;
    CHECK(!cache.begin_read(key(23), evicted));  // no slot is free
    CHECK(cache.compute_done(key(12)));
    REQUIRE(cache.begin_read(key(23), evicted));
    CHECK(std::vector(evicted.begin(), evicted.end()) == std::vector{key(12)});
    cache.finish_read(key(23));
    CHECK(held(cache) == std::vector{key(13), key(14), key(22), key(23)});
    const EventOutcome second = run(cache, 2, 2, {2, 4});
    CHECK(second.accesses[0].kind == AccessKind::kHit);
    CHECK(second.accesses[1].kind == AccessKind::kMiss);
    REQUIRE(!second.evicted.empty());
    CHECK(second.evicted.front() == key(23));
  }

  TEST_CASE("slots in proportion: largest remainder, never more than the need") {
    const auto shares = [](std::vector<std::size_t> demands, std::size_t slots) {
      return plec_slots(demands, slots, PlecSplit::kProportional);
    };
    CHECK(shares({4, 4, 4}, 6) == std::vector<std::size_t>{2, 2, 2});
    CHECK(shares({1, 1, 1}, 2) == std::vector<std::size_t>{1, 1, 0});  // equal: the earlier
    CHECK(shares({5, 1}, 3) == std::vector<std::size_t>{3, 0});        // 2.5 and 0.5
    CHECK(shares({3, 2}, 9) == std::vector<std::size_t>{3, 2});
    CHECK(shares({0, 0}, 4) == std::vector<std::size_t>{0, 0});
    CHECK(shares({3, 2}, 0) == std::vector<std::size_t>{0, 0});
    CHECK(plec_slots(std::vector<std::size_t>{3, 0, 2, 4}, 6, PlecSplit::kGreedy) ==
          std::vector<std::size_t>{3, 0, 2, 1});
  }

  TEST_CASE("proportional slots outrank nearer experts that have none") {
    const std::vector<std::vector<ExpertKey>> predicted = {
        {}, {key(11), key(12), key(13)}, {key(21), key(22)}};
    PlecPlan plan(kLabels, 4, PlecSplit::kProportional, false);
    plan.begin_step(predicted);
    std::vector<ExpertKey> order;
    plan.append_planned(order);
    CHECK(order == std::vector{key(11), key(12), key(21), key(22)});
    // A freed slot goes to the next in (layer, probability) order whose layer is to come.
    CHECK(plan.compute_done(key(11)) == key(13));
    CHECK(plan.compute_done(key(13)) == std::nullopt);
    CHECK(plan.compute_done(key(13)) == std::nullopt);
  }

  TEST_CASE("a missed expert takes an unwanted one's slot, then the last one's") {
    const std::vector<std::vector<ExpertKey>> predicted = {
        {key(1), key(2)}, {key(11)}, {key(21), key(22)}};
    PlecPlan plan(kLabels, 4, PlecSplit::kGreedy, false);
    plan.begin_step(predicted);
    const std::vector<ExpertKey> routed = {key(1), key(5), key(6)};
    const PlecPlan::Correction& correction = plan.route_known(layer_id(0), routed);
    CHECK(correction.unwanted == std::vector{key(2)});
    CHECK(correction.missed == std::vector{key(5), key(6)});
    CHECK(plan.has_slot(key(11)));
    CHECK(!plan.has_slot(key(21)));  // gave its slot to the second missed expert
    // When they are computed, it is the first to get one back.
    CHECK(plan.compute_done(key(5)) == key(21));
    CHECK(plan.compute_done(key(6)) == key(22));
  }

  TEST_CASE("caches of single layers have slots of their own") {
    const std::vector<std::vector<ExpertKey>> predicted = {
        {key(1), key(2)}, {key(11)}, {key(21), key(22), key(23)}};
    PlecPlan plan(kLabels, 2, PlecSplit::kGreedy, true);
    plan.begin_step(predicted);
    CHECK(plan.shares()[2] == 2);
    CHECK(plan.has_slot(key(22)));
    CHECK(plan.compute_done(key(1)) == std::nullopt);
    CHECK(!plan.has_slot(key(23)));
  }

  TEST_CASE("victims: the unwanted, then the next token's, those of this token stay") {
    ExpertCache cache = plec_cache(4);
    run(cache, 1, 0, {1});
    run(cache, 1, 1, {2});
    run(cache, 1, 2, {3});
    run(cache, 2, 0, {4});  // 1 was predicted and is unwanted
    CHECK(held(cache) == std::vector{key(1), key(4), key(12), key(23)});
    // Now 12 is unwanted too, and used later than 1. Then 4 leaves: it is expected in the next
    // token, 23 in this one.
    const EventOutcome outcome = run(cache, 2, 1, {5, 6, 7});
    CHECK(std::vector(outcome.evicted.begin(), outcome.evicted.end()) ==
          std::vector{key(1), key(12), key(4)});
    CHECK(held(cache) == std::vector{key(15), key(16), key(17), key(23)});
  }

  TEST_CASE("with the truth predicted, what this token still needs stays") {
    FutureAccesses future(kLabels.layers * kLabels.experts);
    const std::vector<std::vector<ExpertKey>> path = {{key(1)},  {key(11)}, {key(21)}, {key(2)},
                                                      {key(11)}, {key(22)}, {key(3)}};
    for (const auto& event : path) future.add_event(event);
    future.finish();
    ExpertCache cache = plec_cache(2, {{"predictor", "oracle"}}, &future);
    std::size_t hits = 0;
    for (std::size_t event = 0; event < path.size(); ++event) {
      const EventOutcome outcome = run(cache, static_cast<std::uint32_t>(event / 3), event % 3,
                                       {static_cast<int>(index(path[event].front()) % 10)});
      hits += outcome.accesses[0].kind == AccessKind::kHit ? 1 : 0;
    }
    CHECK(hits == 1);  // 11; LRU with two slots has lost it
    CHECK(cache.policy().looks_ahead());
    CHECK(!plec_cache(2).policy().looks_ahead());
  }

  TEST_CASE("a speculative read is let in only for what is needed sooner than the victim") {
    ExpertCache cache = plec_cache(3);
    run(cache, 1, 0, {1});
    run(cache, 1, 1, {2});
    run(cache, 1, 2, {3});
    std::span<const ExpertKey> evicted;
    CHECK(!cache.begin_read(key(5), evicted));  // nobody expects it
    run(cache, 2, 0, {4});                      // 1 is unwanted and leaves
    CHECK(held(cache) == std::vector{key(4), key(12), key(23)});
    run(cache, 2, 1, {6});  // 12 is unwanted and leaves
    CHECK(held(cache) == std::vector{key(4), key(16), key(23)});
    CHECK(!cache.begin_read(key(5), evicted));
    CHECK(cache.compute_done(key(16)));
    CHECK(!cache.compute_done(key(16)));  // it has been given up already
    CHECK(!cache.compute_done(key(4)));   // not of the last visit
  }

  // Two layers of eight experts, three slots, two of each visit: who of the two that were seen last
  // keeps a slot is a matter of rank, never of the id.
  TEST_CASE("experts that are numbered the other way round hit as often") {
    constexpr RoutingShape kShape{60, 2, 8};
    Rng rng(8);
    std::vector<std::uint64_t> hits;
    std::vector<RecordedVisit> visits;
    for (std::uint32_t token = 0; token < kShape.tokens; ++token) {
      for (std::size_t layer = 0; layer < kShape.layers; ++layer) {
        const auto best = static_cast<int>(rng.below(4));
        const auto second = static_cast<int>(4 + rng.below(4));
        visits.push_back({token, layer_id(layer), expert_ids({best, second}), false});
      }
    }
    for (const bool mirrored : {false, true}) {
      CacheOptions options;
      options.shape = kShape;
      options.scope = CacheScope::kGlobal;
      options.capacity = 3;
      std::vector<RecordedVisit> seen = visits;
      for (RecordedVisit& visit : seen) {
        for (ExpertId& id : visit.experts) id = mirrored ? expert_id(7 - index(id)) : id;
      }
      hits.push_back(replay(options, {{"policy", "plec"}}, seen).hits);
    }
    CHECK(hits[0] == hits[1]);
    CHECK(hits[0] > 0);
  }

  TEST_CASE("a precision below that of naming every expert is refused") {
    EvictionContext context;
    context.shape = {0, 2, 8};
    context.k = 4;
    const auto make = [&](double precision) {
      const Json config = {
          {"policy", "plec"}, {"predictor", "noisy_oracle"}, {"precision", precision}};
      return make_eviction(config, context);
    };
    CHECK(contains(user_error_of([&] { return make(0.4); }),
                   "/cache/eviction/precision: expected at least 0.5000 (k = 4 of 8 experts), got "
                   "0.4"));
    CHECK(make(0.5) != nullptr);
  }

  TEST_CASE("predictors and splits that do not exist are refused") {
    EvictionContext context;
    context.shape = kLabels;
    const auto error = [&](const Json& parameters) {
      Json config = parameters;
      config["policy"] = "plec";
      return user_error_of([&] { make_eviction(config, context); });
    };
    CHECK(contains(error({{"predictor", "transition"}}), "/cache/eviction/predictor: unknown"));
    CHECK(contains(error({{"plec_split", "fair"}}), "/cache/eviction/plec_split: unknown"));
    CHECK(contains(error({{"count", 0}}), "/cache/eviction/count: expected"));
    CHECK(contains(error({{"recall", 2}}), "/cache/eviction/recall: expected"));
    CHECK(contains(error({{"precision", 0}}), "/cache/eviction/precision: expected"));
  }
}

}  // namespace moesim::test
