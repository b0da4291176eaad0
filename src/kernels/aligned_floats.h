// Floats that begin at a cache line. The kernels take activations from any address that suits a
// float, but a vector as wide as a cache line that begins in its midst is read in two steps: on
// CPUs with AVX-512 products are up to a third slower then.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

namespace moesim {

template <class T>
struct CacheLineAllocator {
  using value_type = T;
  static constexpr std::align_val_t kCacheLine{64};

  CacheLineAllocator() = default;
  template <class U>
  CacheLineAllocator(const CacheLineAllocator<U>&) {}  // NOLINT: a rebound one is the same

  T* allocate(std::size_t count) {
    return static_cast<T*>(::operator new(count * sizeof(T), kCacheLine));
  }
  void deallocate(T* memory, std::size_t) { ::operator delete(memory, kCacheLine); }

  template <class U>
  bool operator==(const CacheLineAllocator<U>&) const {
    return true;
  }
};

using AlignedFloats = std::vector<float, CacheLineAllocator<float>>;

}  // namespace moesim
