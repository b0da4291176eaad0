// A measured table of flash throughput: read size x lanes -> bytes per second.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace moesim {

struct FlashRow {
  std::uint64_t read_bytes = 0;
  std::size_t lanes = 0;     // threads that each hold one blocking read
  double bytes_per_s = 0.0;  // all lanes together
};
using FlashTable = std::vector<FlashRow>;

// Reads a CSV with a header line and the columns read_kib, lanes and mib_per_s in any order; other
// columns are ignored, fields are not quoted. `shown` is how messages call the file. Throws
// UserError "SHOWN:LINE: ..." for a missing column, a row with too few fields and a number out of
// range, and "SHOWN: ..." for a file without rows.
FlashTable read_flash_table(const std::filesystem::path& path, const std::string& shown);

}  // namespace moesim
