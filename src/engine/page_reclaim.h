// Which pages of the expert cache the kernel has left in place: those that were touched last, as
// many as there is room for. What is beyond the room is stolen, least recently touched first, and
// faulted back when it is touched again. Stolen pages may still take a share of their bytes, where
// they are compressed in memory: then more must be stolen than is wanted.
//
// Counted in bytes per item of the cache, so that an item may be there in part. It knows no clock
// and no price: it says how many bytes come back and how many are stolen.
#pragma once

#include <cstdint>
#include <vector>

#include "core/ids.h"

namespace moesim {

struct PageMoves {
  std::uint64_t refaulted = 0;   // bytes that had been stolen and were touched again
  std::uint64_t stolen = 0;      // bytes that had to leave
  std::uint64_t from_flash = 0;  // of the refaulted ones, those of a file, read again

  PageMoves operator-(const PageMoves& earlier) const {
    return {refaulted - earlier.refaulted, stolen - earlier.stolen,
            from_flash - earlier.from_flash};
  }
  PageMoves& operator+=(const PageMoves& more) {
    refaulted += more.refaulted;
    stolen += more.stolen;
    from_flash += more.from_flash;
    return *this;
  }
};

class PageReclaim {
 public:
  // `item_bytes`: [items of the cache]. `stolen_share`: of its bytes, what a stolen page goes on
  // taking. There is no room yet. REQUIRES: 0 <= stolen_share < 1.
  explicit PageReclaim(std::vector<std::uint64_t> item_bytes, double stolen_share = 0);

  // From now on so many bytes may stay; steals what is beyond.
  PageMoves set_room(std::uint64_t bytes);
  // All pages of the item are used now. New pages where it had none, else those that were stolen
  // come back; then others leave, at last its own, until everything fits or nothing is in place.
  PageMoves touch(ExpertKey item);
  // The cache has let it go: its pages are free. Nothing happens where it had none.
  void release(ExpertKey item);
  // Nothing holds pages.
  void clear();

  // Bytes that are in place, of all items and of one.
  [[nodiscard]] std::uint64_t resident() const { return resident_; }
  [[nodiscard]] std::uint64_t resident(ExpertKey item) const { return pages_[index(item)].bytes; }

 private:
  struct Pages {
    std::uint64_t bytes = 0;  // in place; in the list where there are any
    bool held = false;        // the cache holds the item, its pages in place or not
    std::uint32_t older = 0;
    std::uint32_t newer = 0;
  };

  void append(std::uint32_t item);
  void unlink(std::uint32_t item);
  std::uint64_t steal();
  // Bytes of room in use beyond what there is; 0 where everything fits.
  [[nodiscard]] std::uint64_t excess() const;

  std::vector<std::uint64_t> item_bytes_;
  std::uint32_t end_;         // stands before the oldest and after the newest
  std::vector<Pages> pages_;  // [items + 1]
  double stolen_share_;
  std::uint64_t resident_ = 0;
  std::uint64_t away_ = 0;  // stolen bytes of items that the cache holds
  std::uint64_t room_ = 0;
};

}  // namespace moesim
