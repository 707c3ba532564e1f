"""Currencies of ISO 4217, with the decimals of their minor units.

Source: ISO 4217 list one as published on 2026-01-01 (SIX, the maintenance agency). Left out are codes without a minor
unit, with which nothing is paid: precious metals, units of account, and the codes for tests and for no currency.
"""

from types import MappingProxyType

from google.type.money_pb2 import Money

_BY_DECIMALS = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: """
        AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW CNY
        COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS
        INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR
        MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP
        STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XAD XCD XCG YER ZAR ZMW ZWG
    """,
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
CURRENCIES = MappingProxyType({code: decimals for decimals, codes in _BY_DECIMALS.items() for code in codes.split()})
"""By code, the decimals of the currencies in force."""
PAST_CURRENCIES = CURRENCIES | dict.fromkeys(["ANG", "BGN", "CUC", "HRK", "SLL", "ZWL"], 2)
"""With those withdrawn since 2021, in which events of the past may be."""
_NANO_DIGITS = 9


def fraction_fault(money: Money, decimals: int) -> str:
    """Return why an amount is no whole number of its currency's minor units; "" where it is one."""
    if money.nanos % 10 ** (_NANO_DIGITS - decimals) == 0:
        return ""
    fraction = f"{abs(money.nanos):0{_NANO_DIGITS}d}".rstrip("0")
    return f"0.{fraction} has too many decimals: {money.currency_code} has {decimals or 'none'}"
