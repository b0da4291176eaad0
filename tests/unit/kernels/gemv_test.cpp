// Products against the reference, on every set of vector instructions of this CPU. Two kinds of
// input: small integers, whose sums are exact in any order, so that nothing but the exact result
// passes; and random numbers, whose results must lie within the bound derived from the
// accumulation.
#include "kernels/gemv.h"

#include <doctest/doctest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <numeric>

#include "core/errors.h"
#include "kernels/row_kernels.h"
#include "support/kernels.h"

namespace moesim::test {

TEST_SUITE("kernels/gemv") {
  // Integers that each format holds exactly: the largest of every block is the largest code.
  std::vector<float> exact_weights(Rng & rng, WeightFormat format, std::size_t rows,
                                   std::size_t columns) {
    const int largest = format == WeightFormat::kQ4 ? 7 : 127;
    auto weights = random_integers(rng, rows * columns, largest);
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t c = 0; c < columns; c += kBlockWeights) {
        weights[r * columns + c] = static_cast<float>(largest);
      }
    }
    return weights;
  }

  std::vector<float> product(const WeightMatrix& w, std::span<const float> x) {
    std::vector<float> y(w.rows, -1);
    gemv_rows(w, 0, w.rows, x.data(), y.data());
    return y;
  }

  std::vector<float> rounded(const std::vector<double>& values) {
    std::vector<float> floats(values.size());
    std::transform(values.begin(), values.end(), floats.begin(),
                   [](double value) { return static_cast<float>(value); });
    return floats;
  }

  TEST_CASE("integers: every number of columns to 200 and of rows to 9, to the bit") {
    Rng rng(1);
    for (const WeightFormat format : kWeightFormats) {
      for (std::size_t columns = 1; columns <= 200; ++columns) {
        CAPTURE(columns);
        const std::size_t rows = 1 + columns % 9;
        const OwnedMatrix w(format, rows, columns, exact_weights(rng, format, rows, columns));
        const auto x = random_integers(rng, columns, 100);
        const auto expected = rounded(reference_gemv(w.view(), x).values);
        on_every_target([&] { CHECK(product(w.view(), x) == expected); });
      }
    }
  }

  TEST_CASE("random numbers: every number of columns to 200, within the bound") {
    Rng rng(2);
    for (const WeightFormat format : kWeightFormats) {
      for (std::size_t columns = 1; columns <= 200; ++columns) {
        CAPTURE(columns);
        const OwnedMatrix w(format, 5, columns, random_floats(rng, 5 * columns));
        const auto x = random_floats(rng, columns);
        const Reference reference = reference_gemv(w.view(), x);
        on_every_target([&] { CHECK(out_of_bounds(product(w.view(), x), reference) == ""); });
      }
    }
  }

  TEST_CASE("long rows, of one panel and of several") {
    Rng rng(3);
    for (const WeightFormat format : kWeightFormats) {
      for (const std::size_t columns :
           {768U, 1999U, 2048U, 2049U, 2111U, 4096U, 8193U, 14336U, 14341U}) {
        CAPTURE(columns);
        const OwnedMatrix w(format, 11, columns, random_floats(rng, 11 * columns));
        const auto x = random_floats(rng, columns);
        const Reference reference = reference_gemv(w.view(), x);
        const OwnedMatrix integers(format, 11, columns, exact_weights(rng, format, 11, columns));
        const auto small = random_integers(rng, columns, 2);
        const auto exact = rounded(reference_gemv(integers.view(), small).values);
        on_every_target([&] {
          CHECK(out_of_bounds(product(w.view(), x), reference) == "");
          CHECK(product(integers.view(), small) == exact);
        });
      }
    }
  }

  TEST_CASE("weights at every address within a cache line, x and y at every address of a float") {
    Rng rng(4);
    for (const WeightFormat format : kWeightFormats) {
      const std::size_t columns = 141;
      const auto weights = exact_weights(rng, format, 6, columns);
      for (std::size_t offset = 0; offset < 64; ++offset) {
        CAPTURE(offset);
        const OwnedMatrix w(format, 6, columns, weights, offset);
        std::vector<float> x = random_integers(rng, columns + 16, 100);
        const std::span<const float> at(x.data() + offset % 16, columns);
        const auto expected = rounded(reference_gemv(w.view(), at).values);
        on_every_target([&] {
          std::vector<float> y(6 + 16, -1);
          gemv_rows(w.view(), 0, 6, at.data(), y.data() + offset % 16);
          CHECK(std::equal(expected.begin(), expected.end(), y.data() + offset % 16));
        });
      }
    }
  }

  // Memory whose last byte is the last one that may be read.
  class GuardedBytes {
   public:
    explicit GuardedBytes(std::size_t size) : page_(static_cast<std::size_t>(getpagesize())) {
      pages_ = (size + page_ - 1) / page_ + 1;
      memory_ = static_cast<std::byte*>(mmap(nullptr, pages_ * page_, PROT_READ | PROT_WRITE,
                                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
      REQUIRE(memory_ != MAP_FAILED);
      REQUIRE(mprotect(memory_ + (pages_ - 1) * page_, page_, PROT_NONE) == 0);
      data_ = memory_ + (pages_ - 1) * page_ - size;
    }
    ~GuardedBytes() { munmap(memory_, pages_ * page_); }
    GuardedBytes(const GuardedBytes&) = delete;
    GuardedBytes& operator=(const GuardedBytes&) = delete;
    [[nodiscard]] std::byte* data() const { return data_; }

   private:
    std::size_t page_;
    std::size_t pages_ = 0;
    std::byte* memory_ = nullptr;
    std::byte* data_ = nullptr;
  };

  TEST_CASE("nothing is read or written behind the end of weights, x and y") {
    Rng rng(5);
    for (const WeightFormat format : kWeightFormats) {
      std::vector<std::size_t> sizes(200);
      std::iota(sizes.begin(), sizes.end(), 1);
      sizes.insert(sizes.end(), {2047, 2048, 2049, 2080, 4097, 6113});
      for (const std::size_t columns : sizes) {
        const OwnedMatrix w(format, 3, columns, exact_weights(rng, format, 3, columns));
        GuardedBytes weights(w.view().bytes());
        std::memcpy(weights.data(), w.view().data, w.view().bytes());
        const WeightMatrix at_end{format, 3, columns, weights.data()};
        GuardedBytes x_bytes(columns * sizeof(float));
        GuardedBytes y_bytes(3 * sizeof(float));
        auto* const x = reinterpret_cast<float*>(x_bytes.data());
        auto* const y = reinterpret_cast<float*>(y_bytes.data());
        std::fill_n(x, columns, 1.0F);
        const auto expected = rounded(reference_gemv(at_end, {x, columns}).values);
        on_every_target([&] {
          gemv_rows(at_end, 0, 3, x, y);
          CHECK(std::equal(expected.begin(), expected.end(), y));
        });
      }
    }
  }

  TEST_CASE("a row's result depends neither on the range of rows nor on the number of threads") {
    Rng rng(6);
    for (const WeightFormat format : kWeightFormats) {
      for (const std::size_t columns : {100U, 9000U}) {
        const OwnedMatrix w(format, 61, columns, random_floats(rng, 61 * columns));
        const auto x = random_floats(rng, columns);
        on_every_target([&] {
          const auto expected = product(w.view(), x);
          for (std::size_t row = 0; row < 61; ++row) {
            std::vector<float> y(61, -1);
            gemv_rows(w.view(), row, row + 1, x.data(), y.data());
            CHECK(y[row] == expected[row]);
            CHECK(std::count(y.begin(), y.end(), -1.0F) == 60);
          }
          for (std::size_t threads = 1; threads <= 4; ++threads) {
            CAPTURE(threads);
            ThreadTeam team(threads);
            std::vector<float> y(61);
            gemv(w.view(), x, y, team);
            CHECK(y == expected);
          }
        });
      }
    }
  }

  TEST_CASE("the first rows of a taller matrix give the first results of its product") {
    Rng rng(11);
    for (const WeightFormat format : kWeightFormats) {
      const OwnedMatrix w(format, 13, 4500, random_floats(rng, 13 * 4500));
      const WeightMatrix top{format, 5, 4500, w.view().data, 13};
      const auto x = random_floats(rng, 4500);
      on_every_target([&] {
        auto expected = product(w.view(), x);
        expected.resize(5);
        CHECK(product(top, x) == expected);
      });
    }
  }

  TEST_CASE("the bound is of use: one of 64 inputs that is off by a hundredth is found") {
    Rng rng(7);
    const std::vector<float> weights(64, 1.0F);
    const auto x = random_floats(rng, 64);
    for (const WeightFormat format : kWeightFormats) {
      const OwnedMatrix w(format, 1, 64, weights);
      const Reference reference = reference_gemv(w.view(), x);
      CHECK(out_of_bounds(product(w.view(), x), reference) == "");
      for (std::size_t i = 0; i < 64; ++i) {
        auto wrong = x;
        wrong[i] += 0.01F;
        CHECK(out_of_bounds(product(w.view(), wrong), reference) != "");
      }
    }
  }

  TEST_CASE("a matrix without rows or columns") {
    ThreadTeam team(2);
    for (const WeightFormat format : kWeightFormats) {
      std::vector<float> y(3, -1);
      gemv({format, 3, 0, nullptr}, {}, y, team);
      CHECK(y == std::vector<float>(3, 0.0F));
      const std::vector<float> x(5, 1.0F);
      CHECK_NOTHROW(gemv({format, 0, 5, nullptr}, x, {}, team));
    }
  }

  TEST_CASE("sizes that do not fit, and formats that are none, are refused") {
    ThreadTeam team(1);
    Rng rng(8);
    const OwnedMatrix w(WeightFormat::kFp16, 2, 3, random_floats(rng, 6));
    std::vector<float> two(2);
    std::vector<float> three(3);
    const char* const message = "a product's sizes do not fit its matrix";
    CHECK_THROWS_WITH_AS(gemv(w.view(), two, two, team), message, InvariantError);
    CHECK_THROWS_WITH_AS(gemv(w.view(), three, three, team), message, InvariantError);
    WeightMatrix unknown = w.view();
    unknown.format = static_cast<WeightFormat>(9);
    CHECK_THROWS_WITH_AS(gemv_rows(unknown, 0, 2, three.data(), two.data()),
                         "unknown weight format", InvariantError);
  }

  TEST_CASE("memory is read whole, at every address and with every number of threads") {
    Rng rng(9);
    std::vector<std::byte> bytes(5000);
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(rng.below(256));
    for (const std::size_t offset : {0U, 1U, 7U, 8U, 63U}) {
      for (const std::size_t size : {0U, 7U, 8U, 255U, 256U, 4099U}) {
        const std::span<const std::byte> part(bytes.data() + offset, size);
        std::uint64_t expected = 0;
        for (std::size_t word = 0; word < size / 8; ++word) {
          std::uint64_t value = 0;
          std::memcpy(&value, part.data() + word * 8, 8);
          expected += value;
        }
        on_every_target([&] {
          for (std::size_t threads = 1; threads <= 4; ++threads) {
            ThreadTeam team(threads);
            CHECK(read_memory(part, team) == expected);
          }
        });
      }
    }
  }
}

}  // namespace moesim::test
