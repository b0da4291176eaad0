#include "engine/page_reclaim.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace moesim {

PageReclaim::PageReclaim(std::vector<std::uint64_t> item_bytes, double stolen_share)
    : item_bytes_(std::move(item_bytes)),
      end_(static_cast<std::uint32_t>(item_bytes_.size())),
      stolen_share_(stolen_share) {
  clear();
}

void PageReclaim::clear() {
  pages_.assign(item_bytes_.size() + 1, {});
  pages_[end_].older = end_;
  pages_[end_].newer = end_;
  resident_ = 0;
  away_ = 0;
}

PageMoves PageReclaim::set_room(std::uint64_t bytes) {
  room_ = bytes;
  return {0, steal()};
}

PageMoves PageReclaim::touch(ExpertKey item) {
  Pages& pages = pages_[index(item)];
  const std::uint64_t absent = item_bytes_[index(item)] - pages.bytes;
  const std::uint64_t refaulted = pages.held ? absent : 0;
  if (pages.bytes > 0) unlink(static_cast<std::uint32_t>(index(item)));
  pages.held = true;
  pages.bytes += absent;
  away_ -= refaulted;
  resident_ += absent;
  append(static_cast<std::uint32_t>(index(item)));
  return {refaulted, steal()};
}

void PageReclaim::release(ExpertKey item) {
  Pages& pages = pages_[index(item)];
  if (pages.held) away_ -= item_bytes_[index(item)] - pages.bytes;
  pages.held = false;
  if (pages.bytes == 0) return;
  unlink(static_cast<std::uint32_t>(index(item)));
  resident_ -= std::exchange(pages.bytes, 0);
}

void PageReclaim::append(std::uint32_t item) {
  Pages& end = pages_[end_];
  pages_[item].older = end.older;
  pages_[item].newer = end_;
  pages_[end.older].newer = item;
  end.older = item;
}

void PageReclaim::unlink(std::uint32_t item) {
  const Pages& pages = pages_[item];
  pages_[pages.older].newer = pages.newer;
  pages_[pages.newer].older = pages.older;
}

std::uint64_t PageReclaim::excess() const {
  const auto compressed =
      static_cast<std::uint64_t>(std::ceil(static_cast<double>(away_) * stolen_share_));
  const std::uint64_t used = resident_ + compressed;
  return used > room_ ? used - room_ : 0;
}

// A stolen byte frees only what its compressed form does not take.
std::uint64_t PageReclaim::steal() {
  std::uint64_t stolen = 0;
  for (std::uint64_t beyond = excess(); beyond > 0 && resident_ > 0; beyond = excess()) {
    const std::uint32_t oldest = pages_[end_].newer;
    Pages& victim = pages_[oldest];
    const auto wanted =
        static_cast<std::uint64_t>(std::ceil(static_cast<double>(beyond) / (1 - stolen_share_)));
    const std::uint64_t bytes = std::min(victim.bytes, wanted);
    victim.bytes -= bytes;
    resident_ -= bytes;
    away_ += bytes;
    stolen += bytes;
    if (victim.bytes == 0) unlink(oldest);
  }
  return stolen;
}

}  // namespace moesim
