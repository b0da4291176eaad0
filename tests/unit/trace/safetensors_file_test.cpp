#include "trace/safetensors_file.h"

#include <fstream>

#include "support/testing.h"
#include "support/traces.h"

namespace moesim::test {
namespace {

std::string error_of(const std::vector<std::byte>& image) {
  return user_error_of([&image] { (void)SafetensorsFile::from_bytes(image, "f"); });
}

std::string error_of_header(const std::string& header, std::size_t data_bytes) {
  return error_of(raw_safetensors(header, data_bytes));
}

// One F32 tensor "a" with this shape and these offsets, and 16 bytes of data.
std::string error_of_tensor(const std::string& shape, const std::string& offsets) {
  return error_of_header(
      R"({"a":{"dtype":"F32","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}", 16);
}

TEST_SUITE("trace/safetensors_file") {
  TEST_CASE(
      "tensors, metadata and an empty tensor are read, padding after the header is no matter") {
    const std::string header =
        R"({"__metadata__":{"k":"v"},"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},)"
        R"("none":{"dtype":"F32","shape":[0,9000000000000000000],"data_offsets":[3,3]},)"
        R"("one":{"dtype":"F32","shape":[],"data_offsets":[3,7]}}   )";
    const auto file = SafetensorsFile::from_bytes(raw_safetensors(header, 7), "f");
    CHECK(file->metadata().at("k") == "v");
    CHECK(file->tensors().size() == 3);
    CHECK(file->find("a")->elements() == 3);
    CHECK(file->find("none")->elements() == 0);
    CHECK(file->find("one")->load<float>(0) == 0.0F);  // begins at an odd address
    CHECK(file->find("b") == nullptr);
  }

  TEST_CASE("a mapped file reads like the image") {
    const TemporaryFolder folder;
    const auto path = folder.path() / "a.safetensors";
    const std::vector<TensorToWrite> tensors = {
        tensor_of<std::int32_t>("a", DType::kI32, {2}, {7, -1})};
    const auto image = safetensors_image(tensors, {});
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(image.data()),
               static_cast<std::streamsize>(image.size()));
    const auto file = SafetensorsFile::open(path, "a.safetensors");
    CHECK(file->find("a")->load<std::int32_t>(0) == 7);
    CHECK(file->find("a")->load<std::int32_t>(1) == -1);
    CHECK(file->metadata().empty());
  }

  TEST_CASE("the writer aligns every tensor to its element and repeats itself byte by byte") {
    const std::vector<TensorToWrite> tensors = {
        tensor_of<std::uint8_t>("bytes", DType::kU8, {3}, {1, 2, 3}),
        tensor_of<std::uint16_t>("halves", DType::kF16, {1}, {0x3C00}),
        tensor_of<std::int64_t>("wide", DType::kI64, {1}, {5}),
        tensor_of<float>("single", DType::kF32, {1}, {1.5F})};
    const auto image = safetensors_image(tensors, {{"b", "2"}, {"a", "1"}});
    CHECK(image == safetensors_image(tensors, {{"a", "1"}, {"b", "2"}}));
    const auto file = SafetensorsFile::from_bytes(image, "f");
    const std::byte* const start = file->find("wide")->bytes.data();  // the widest comes first
    for (const auto& entry : file->tensors()) {
      const SafetensorsTensor& tensor = entry.second;
      CAPTURE(tensor.name);
      CHECK((tensor.bytes.data() - start) % static_cast<int>(dtype_size(tensor.dtype)) == 0);
    }
    CHECK((image.size() - 8 - 4 - 2 - 3) % 8 == 0);  // where the data begin
    CHECK_THROWS_AS((void)safetensors_image({{"a", DType::kF32, {2}, {}}}, {}), InvariantError);
  }

  TEST_CASE("a missing file, a folder and an empty file") {
    const TemporaryFolder folder;
    const auto missing = folder.path() / "no";
    CHECK(user_error_of([&] { (void)SafetensorsFile::open(missing, "no"); }) ==
          "no: expected a file, got nothing: no such file");
    CHECK(user_error_of([&] { (void)SafetensorsFile::open(folder.path(), "d"); }) ==
          "d: expected a file, got a directory");
    std::ofstream(folder.path() / "empty");
    CHECK(user_error_of([&] { (void)SafetensorsFile::open(folder.path() / "empty", "e"); }) ==
          "e: expected a safetensors file of at least 8 bytes, got 0");
  }

  TEST_CASE("a header length that the file cannot hold") {
    CHECK(error_of(raw_safetensors("{}", 0, 10'000'000'000)) ==
          "f: header: expected a length of at most 2 bytes (the file has 10), got 10000000000: "
          "truncated, or no safetensors file");
    CHECK(contains(error_of(raw_safetensors("{}", 0, ~std::uint64_t{0})), "18446744073709551615"));
    CHECK(contains(error_of(raw_safetensors("", 100'000'001, 100'000'001)),
                   "expected a length of at most 100000000 bytes"));
  }

  TEST_CASE("a header that is no JSON object, or has a key twice") {
    CHECK(contains(error_of_header("nonsense", 0), "f: header: expected JSON, got an error at"));
    CHECK(error_of_header("[1]", 0) == "f: header: expected an object, got [1]");
    CHECK(error_of_header(R"({"a":1,"a":2})", 0) == "f: header: /a: duplicate key");
  }

  TEST_CASE("metadata that are not strings") {
    CHECK(error_of_header(R"({"__metadata__":[]})", 0) ==
          "f: expected __metadata__ to be an object, got []");
    CHECK(error_of_header(R"({"__metadata__":{"top_k":8}})", 0) ==
          "f: metadata \"top_k\": expected a string, got 8");
  }

  TEST_CASE("an entry of the wrong form") {
    CHECK(error_of_header(R"({"a":7})", 0) == "f: tensor \"a\": expected an object, got 7");
    CHECK(error_of_header(R"({"a":{}})", 0) ==
          "f: tensor \"a\": expected the key \"dtype\", got none");
    CHECK(error_of_header(R"({"a":{"dtype":"F17","shape":[],"data_offsets":[0,0]}})", 0) ==
          "f: tensor \"a\": expected a known dtype (F16, BF16, F32, U8, U16, I32, I64, ...), got "
          "\"F17\"");
    CHECK(error_of_tensor("[-1]", "[0,16]") ==
          "f: tensor \"a\": expected a shape of integers >= 0, got [-1]");
    CHECK(error_of_tensor("4", "[0,16]") ==
          "f: tensor \"a\": expected a shape of integers >= 0, got 4");
    for (const std::string offsets : {"[0]", "[0,1,2]", "[16,0]", "[0,1.5]", "null"}) {
      CHECK(error_of_tensor("[4]", offsets) ==
            "f: tensor \"a\": expected data_offsets [begin, end], got " + offsets);
    }
  }

  TEST_CASE("a shape that does not fit its bytes, also where the product overflows") {
    CHECK(error_of_tensor("[3]", "[0,16]") ==
          "f: tensor \"a\": expected 12 bytes for F32 [3], got data_offsets of 16 bytes");
    // 2^62 * 4 bytes is 2^64, which wraps to nothing.
    CHECK(error_of_tensor("[4611686018427387904]", "[0,0]") ==
          "f: tensor \"a\": expected more than 2^64 bytes for F32 [4611686018427387904], got "
          "data_offsets of 0 bytes");
    CHECK(contains(error_of_tensor("[4294967296,4294967296,4]", "[0,16]"), "more than 2^64 bytes"));
  }

  TEST_CASE("a tensor that ends outside the file") {
    CHECK(error_of_tensor("[5]", "[0,20]") ==
          "f: tensor \"a\": expected data_offsets within the 16 bytes after the header, got "
          "[0, 20]: is the file truncated?");
  }

  TEST_CASE("tensors that overlap, leave a gap or do not reach the end") {
    const auto two = [](const std::string& first, const std::string& second) {
      return R"({"a":{"dtype":"U8","shape":[8],"data_offsets":)" + first +
             R"(},"b":{"dtype":"U8","shape":[8],"data_offsets":)" + second + "}}";
    };
    CHECK(error_of_header(two("[0,8]", "[4,12]"), 12) ==
          "f: tensor \"b\": expected to begin at byte 8 (the end of a), got 4: tensors overlap");
    CHECK(error_of_header(two("[0,8]", "[12,20]"), 20) ==
          "f: tensor \"b\": expected to begin at byte 8 (the end of a), got 12: tensors leave a "
          "gap");
    CHECK(error_of_header(two("[10,18]", "[2,10]"), 18) ==
          "f: tensor \"b\": expected to begin at byte 0 (the start of the data), got 2: tensors "
          "leave a gap");
    CHECK(error_of_header(two("[0,8]", "[8,16]"), 17) ==
          "f: expected 16 bytes of tensors after the header, got 17");
  }
}

}  // namespace
}  // namespace moesim::test
