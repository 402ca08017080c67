def test_tr(trained, predicted):
    print(trained.history, predicted.head(2))
