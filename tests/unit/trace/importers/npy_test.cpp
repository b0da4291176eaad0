#include <bit>
#include <cstring>
#include <limits>

#include "core/half.h"
#include "unit/trace/importers/recording_files.h"

namespace moesim::test {
namespace {

TEST_SUITE("trace/importers/npy") {
  const std::string kShape = "(2, 1, 3)";

  std::string header(const std::string& descr, const std::string& order, const std::string& shape) {
    return "{'descr': '" + descr + "', 'fortran_order': " + order + ", 'shape': " + shape + ", }";
  }

  // A file of version 1.0 or, with four length bytes, 2.0.
  std::string npy(const std::string& dictionary, const std::string& data, char version = 1) {
    std::string text = "\x93NUMPY";
    text += version;
    text += '\0';
    for (int byte = 0; byte < (version == 1 ? 2 : 4); ++byte) {
      text += static_cast<char>(dictionary.size() >> (8 * byte) & 0xFFU);
    }
    return text + dictionary + data;
  }

  template <class Value>
  std::string bytes_of(const std::vector<Value>& values) {
    std::string bytes(values.size() * sizeof(Value), '\0');
    std::memcpy(bytes.data(), values.data(), bytes.size());
    return bytes;
  }

  const std::vector<float> kValues = {1.5F, -2.0F, 0.25F, 3.0F, 70000.0F, -0.5F};

  std::string error_of(const std::string& dictionary, const std::string& data) {
    const std::string message = import_error("npy", npy(dictionary, data));
    const auto at = message.find("/in: ");
    return at == std::string::npos ? message : message.substr(at + 1);
  }

  TEST_CASE("4-byte floats stay as they are") {
    for (const char version : {'\x01', '\x02', '\x03'}) {
      const ImportedTrace imported =
          import_text("npy", npy(header("<f4", "False", kShape), bytes_of(kValues), version));
      CHECK(imported.data.shape.tokens == 2);
      CHECK(imported.data.shape.layers == 1);
      CHECK(imported.data.shape.experts == 3);
      CHECK(imported.data.logits == kValues);
      CHECK(imported.data.logits_dtype == "F32");
      CHECK(imported.data.ids.empty());
      CHECK_FALSE(imported.data.metadata.contains("top_k"));
      CHECK_FALSE(imported.data.metadata.contains("ranked"));
      CHECK(has_note(imported, "top_k is not recorded (set it with --top-k)"));
    }
  }

  TEST_CASE("8-byte floats become 4-byte ones, which is noted") {
    const std::vector<double> values(kValues.begin(), kValues.end());
    const ImportedTrace imported =
        import_text("npy", npy(header("<f8", "False", kShape), bytes_of(values)));
    CHECK(imported.data.logits == kValues);
    CHECK(imported.data.logits_dtype == "F32");
    CHECK(has_note(imported, "8-byte floats were rounded"));
  }

  TEST_CASE("2-byte floats stay halves") {
    std::vector<std::uint16_t> halves;
    for (const float value : {1.5F, -2.0F, 0.25F, 3.0F, 0.0F, -0.5F}) {
      halves.push_back(float_to_half(value));
    }
    const TraceData data =
        import_text("npy", npy(header("<f2", "False", kShape), bytes_of(halves))).data;
    CHECK(data.logits == std::vector<float>{1.5F, -2.0F, 0.25F, 3.0F, 0.0F, -0.5F});
    CHECK(data.logits_dtype == "F16");
  }

  TEST_CASE("top_k is the user's, within the experts, --experts must be the array's") {
    const std::string text = npy(header("<f4", "False", kShape), bytes_of(kValues));
    ImportRequest request;
    request.top_k = 2;
    CHECK(import_text("npy", text, request).data.metadata.at("top_k") == "2");
    request.top_k = 4;
    CHECK(import_error("npy", text, request) ==
          "--top-k: expected an integer in [1, 3] (the experts of the recording), got 4");
    request = {};
    request.experts = 4;
    CHECK(contains(import_error("npy", text, request), "--experts: expected 3 as "));
  }

  TEST_CASE("other arrays are refused, saying how to convert") {
    const std::string data = bytes_of(kValues);
    CHECK(contains(error_of(header(">f4", "False", kShape), data),
                   "in: dtype: expected little-endian values, got '>f4'"));
    for (const std::string descr : {"<i4", "|u1", "<V2", "<f16", "<c8"}) {
      CHECK(error_of(header(descr, "False", kShape), data) ==
            "in: dtype: expected '<f2', '<f4' or '<f8', got '" + descr + "'");
    }
    CHECK(contains(error_of(header("<f4", "True", kShape), data),
                   "in: expected C order, got Fortran order"));
    for (const std::string shape : {"(6,)", "(2, 3)", "(1, 2, 1, 3)", "(0, 2, 3)", "()"}) {
      CHECK(contains(error_of(header("<f4", "False", shape), data),
                     "in: shape: expected [tokens, layers, experts], each at least 1, got ["));
    }
    CHECK(contains(error_of(header("<f4", "False", "(1, 1, 70000)"), data),
                   "in: shape: expected at most 65535 layers and experts"));
  }

  TEST_CASE("data of the wrong length are refused") {
    const std::string data = bytes_of(kValues);
    CHECK(error_of(header("<f4", "False", kShape), data.substr(1)) ==
          "in: expected 2 x 1 x 3 values of 4 bytes, got 23 bytes");
    CHECK(error_of(header("<f4", "False", kShape), data + "x") ==
          "in: expected 2 x 1 x 3 values of 4 bytes, got 25 bytes");
    // The product of these dimensions overflows 64 bits.
    CHECK(contains(error_of(header("<f4", "False", "(4611686018427387904, 4, 4)"), ""),
                   "in: expected 4611686018427387904 x 4 x 4 values"));
  }

  TEST_CASE("values that are not finite are named by their place") {
    for (const double bad : {std::numeric_limits<double>::quiet_NaN(),
                             std::numeric_limits<double>::infinity(), 1e300}) {
      const std::vector<double> values = {0, 0, 0, 0, bad, 0};
      CHECK(contains(error_of(header("<f8", "False", kShape), bytes_of(values)),
                     "in: token 1, layer 0, expert 1: expected a finite number"));
    }
    const std::vector<std::uint16_t> halves = {0, 0, 0, 0, 0, 0x7C00};
    CHECK(contains(error_of(header("<f2", "False", kShape), bytes_of(halves)),
                   "in: token 1, layer 0, expert 2: expected a finite number"));
  }

  TEST_CASE("a broken header is refused") {
    CHECK(contains(import_error("npy", "tok,layer\n"), "expected a .npy file"));
    CHECK(contains(import_error("npy", npy(header("<f4", "False", kShape), "", 9)),
                   "expected .npy version 1 to 3, got 9"));
    const std::string whole = npy(header("<f4", "False", kShape), "");
    CHECK(contains(import_error("npy", whole.substr(0, 30)), "(truncated)"));
    CHECK(contains(error_of("{'fortran_order': False, 'shape': (1, 1, 1)}", "abcd"),
                   "in: header: expected the key 'descr', got "));
    CHECK(contains(error_of("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", ""),
                   "in: header: expected one dtype, got "));
    CHECK(contains(error_of(header("<f4", "False", "(1, 1, x)"), ""),
                   "in: header: expected whole dimensions, got \"x\""));
    CHECK(contains(error_of(header("<f4", "False", "[1, 1, 1]"), ""),
                   "in: header: expected a shape in parentheses, got "));
  }
}

}  // namespace
}  // namespace moesim::test
